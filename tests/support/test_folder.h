/* A folder for one test, under TMPDIR or /tmp. */
#ifndef KT_TESTS_SUPPORT_TEST_FOLDER_H
#define KT_TESTS_SUPPORT_TEST_FOLDER_H

/* The path of a new, empty folder; ends the process if there is none. */
char *kt_test_folder_create(void);
/* Removes it with everything in it, and frees the path. */
void kt_test_folder_remove(char *folder);

#endif

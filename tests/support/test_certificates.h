/*
 * Certificates for tests: two authorities in a folder of their own, and contexts of nodes with every fault that one can
 * have. Ends the process where something cannot be made.
 */
#ifndef KT_TESTS_SUPPORT_TEST_CERTIFICATES_H
#define KT_TESTS_SUPPORT_TEST_CERTIFICATES_H

#include "wire/certificate.h"
#include "wire/tls.h"

#define KT_TEST_PATH_MAX 256

struct kt_test_certificates {
    char *folder;
    struct kt_pem authorities[2];
    unsigned made;
};

/* What is wrong with a node's files; all zero: nothing. */
struct kt_test_fault {
    bool other_authority; /* the second one signed it, and that alone is taken */
    bool takes_both;      /* the authorities of both are taken, whoever signed it */
    bool expired, not_yet;
    kt_node_id names; /* another node than it is; 0: no such fault */
};

void kt_test_certificates_init(struct kt_test_certificates *certificates);
void kt_test_certificates_release(struct kt_test_certificates *certificates);
/* Writes the files of a node; the paths are filled in. */
struct kt_test_paths {
    char ca[KT_TEST_PATH_MAX], certificate[KT_TEST_PATH_MAX], key[KT_TEST_PATH_MAX];
};
void kt_test_certificate_files(struct kt_test_certificates *certificates, kt_node_id node,
                               const struct kt_test_fault *fault, struct kt_test_paths *paths);
/* A context of a node; fault may be NULL. The reference is the caller's. */
struct kt_tls_context *kt_test_context(struct kt_test_certificates *certificates, kt_node_id node,
                                       const struct kt_test_fault *fault);

#endif

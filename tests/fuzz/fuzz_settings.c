/* Any bytes as a settings file, and then as an assignment: a clear error or settings that print and load again. */
#include <stdlib.h>

#include "base/alloc.h"
#include "base/check.h"
#include "base/log.h"
#include "node/settings.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void ignore_line(void *data, const char *line)
{
    (void)data;
    (void)line;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kt_settings settings, again;
    struct kt_error error = {.text = ""};
    char *text = NULL;
    size_t len = 0;

    kt_log_sink(ignore_line, NULL);
    kt_settings_init(&settings);
    if (kt_settings_yaml(&settings, kt_slice(data, size), &error) != KT_OK)
        KT_CHECK(error.text[0] != '\0');
    char *assignment = kt_slice_dup_text(kt_slice(data, size));
    error.text[0] = '\0';
    if (kt_settings_assign(&settings, assignment, &error) != KT_OK)
        KT_CHECK(error.text[0] != '\0');
    kt_free(assignment);
    if (kt_settings_finish(&settings, &error) == KT_OK) {
        FILE *out = open_memstream(&text, &len);
        kt_settings_print(&settings, out);
        fclose(out);
        kt_settings_init(&again);
        if (kt_settings_yaml(&again, kt_slice(text, len), &error) == KT_OK) {
            KT_CHECK(again.node_id == settings.node_id);
            KT_CHECK(again.members.count == settings.members.count);
        }
        kt_settings_release(&again);
        free(text);
    }
    kt_settings_release(&settings);
    return 0;
}

#include "support/test_certificates.h"

#include <stdio.h>
#include <sys/stat.h>

#include "base/check.h"
#include "support/test_folder.h"

#define DAY_S 86400

void kt_test_certificates_init(struct kt_test_certificates *certificates)
{
    struct kt_validity validity = {.from_s = -20 * DAY_S, .until_s = 100 * DAY_S};
    memset(certificates, 0, sizeof(*certificates));
    certificates->folder = kt_test_folder_create();
    for (size_t i = 0; i < KT_COUNT(certificates->authorities); i++) {
        kt_pem_init(&certificates->authorities[i]);
        /* The same name: an authority is known by its key. */
        KT_CHECK(kt_certificate_authority("Test CA", validity, &certificates->authorities[i], NULL) == KT_OK);
    }
}

void kt_test_certificates_release(struct kt_test_certificates *certificates)
{
    for (size_t i = 0; i < KT_COUNT(certificates->authorities); i++)
        kt_pem_release(&certificates->authorities[i]);
    kt_test_folder_remove(certificates->folder);
}

static void append(const char *path, const struct kt_buf *text)
{
    FILE *file = fopen(path, "ab");
    KT_CHECK(file && fwrite(text->data, 1, text->len, file) == text->len && fclose(file) == 0);
}

void kt_test_certificate_files(struct kt_test_certificates *certificates, kt_node_id node,
                               const struct kt_test_fault *fault, struct kt_test_paths *paths)
{
    static const struct kt_test_fault none;
    struct kt_pem pem;
    const char *folder = certificates->folder;
    unsigned number = ++certificates->made;

    fault = fault ? fault : &none;
    const struct kt_pem *authority = &certificates->authorities[fault->other_authority];
    struct kt_certificate_plan plan = {.name = "node",
                                       .node = fault->names ? fault->names : node,
                                       .validity = {.from_s = -10 * DAY_S, .until_s = 90 * DAY_S}};
    if (fault->expired)
        plan.validity.until_s = -DAY_S;
    if (fault->not_yet)
        plan.validity.from_s = DAY_S;
    kt_pem_init(&pem);
    KT_CHECK(kt_certificate_issue(authority, &plan, &pem, NULL) == KT_OK);
    snprintf(paths->ca, sizeof(paths->ca), "%s/%u-ca.pem", folder, number);
    snprintf(paths->certificate, sizeof(paths->certificate), "%s/%u.pem", folder, number);
    snprintf(paths->key, sizeof(paths->key), "%s/%u-key.pem", folder, number);
    append(paths->ca, &authority->certificate);
    if (fault->takes_both)
        append(paths->ca, &certificates->authorities[!fault->other_authority].certificate);
    append(paths->certificate, &pem.certificate);
    append(paths->key, &pem.key);
    KT_CHECK(chmod(paths->key, 0600) == 0);
    kt_pem_release(&pem);
}

struct kt_tls_context *kt_test_context(struct kt_test_certificates *certificates, kt_node_id node,
                                       const struct kt_test_fault *fault)
{
    struct kt_test_paths paths;
    struct kt_tls_context *context;
    struct kt_error error = {.text = ""};

    kt_test_certificate_files(certificates, node, fault, &paths);
    struct kt_tls_files files = {.ca = paths.ca,
                                 .certificate = paths.certificate,
                                 .key = paths.key,
                                 .node = fault && fault->names ? fault->names : node};
    if (kt_tls_context_create(&files, &context, &error) != KT_OK)
        fprintf(stderr, "%s\n", error.text);
    KT_CHECK(context);
    return context;
}

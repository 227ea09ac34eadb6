/*
 * A node's certificate with any validity, which kontiki certs does not make:
 *
 *     make_certificate CA-FOLDER FILE NODE FROM-SECONDS UNTIL-SECONDS
 *
 * from and until count from now. Writes FILE.pem and FILE-key.pem.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/check.h"
#include "wire/certificate.h"

static void read_file(const char *folder, const char *name, struct kt_buf *text)
{
    char path[4096];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    FILE *file = fopen(path, "rb");
    uint8_t *room = kt_buf_reserve(text, KT_PEM_BYTES_MAX);
    KT_CHECK(file && room);
    text->len = fread(room, 1, KT_PEM_BYTES_MAX, file);
    fclose(file);
}

static void write_file(const char *name, const char *ending, mode_t mode, const struct kt_buf *text)
{
    char path[4096];
    snprintf(path, sizeof(path), "%s%s", name, ending);
    FILE *file = fopen(path, "wb");
    KT_CHECK(file && fwrite(text->data, 1, text->len, file) == text->len && fclose(file) == 0);
    KT_CHECK(chmod(path, mode) == 0);
}

int main(int argc, char **argv)
{
    struct kt_pem authority, pem;
    struct kt_error error = {.text = ""};

    if (argc != 6) {
        fputs("usage: make_certificate CA-FOLDER FILE NODE FROM-SECONDS UNTIL-SECONDS\n", stderr);
        return 2;
    }
    struct kt_certificate_plan plan = {
        .name = "test node",
        .node = strtoull(argv[3], NULL, 10),
        .validity = {.from_s = strtoll(argv[4], NULL, 10), .until_s = strtoll(argv[5], NULL, 10)}};
    kt_pem_init(&authority);
    kt_pem_init(&pem);
    read_file(argv[1], "ca.pem", &authority.certificate);
    read_file(argv[1], "ca-key.pem", &authority.key);
    if (kt_certificate_issue(&authority, &plan, &pem, &error) != KT_OK) {
        fprintf(stderr, "%s\n", error.text);
        return 1;
    }
    write_file(argv[2], ".pem", 0644, &pem.certificate);
    write_file(argv[2], "-key.pem", 0600, &pem.key);
    kt_pem_release(&authority);
    kt_pem_release(&pem);
    return 0;
}

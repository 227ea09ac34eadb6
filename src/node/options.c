/* The command line: few options, everything else is a setting. */
#include "node/options.h"

#include "kontiki/version.h"

static const char usage[] =
    "usage: kontikid [--config FILE] [--set NAME=VALUE]...\n"
    "  --config FILE    settings as YAML; without it the file named by KONTIKI_CONFIG or RSTMDB_CONFIG, if any\n"
    "  --set NAME=VALUE one setting; wins over the environment, which wins over the file\n"
    "  --print-config   print the settings that would be used, and where they come from\n"
    "  --print-settings-markdown  print docs/settings.md\n"
    "  --version, --help\n";

struct asked {
    const char *file;
    bool print, help, markdown, version;
};

static bool read_arguments(int argc, char **argv, struct asked *asked)
{
    for (int i = 1; i < argc; i++) {
        const char *option = argv[i];
        if (strcmp(option, "--help") == 0 || strcmp(option, "-h") == 0) {
            asked->help = true;
        } else if (strcmp(option, "--version") == 0) {
            asked->version = true;
        } else if (strcmp(option, "--print-config") == 0) {
            asked->print = true;
        } else if (strcmp(option, "--print-settings-markdown") == 0) {
            asked->markdown = true;
        } else if (strcmp(option, "--config") == 0 || strcmp(option, "--set") == 0) {
            if (i + 1 == argc) {
                fprintf(stderr, "kontikid: %s needs a value\n%s", option, usage);
                return false;
            }
            i++;
            if (option[2] == 'c')
                asked->file = argv[i];
        } else {
            fprintf(stderr, "kontikid: '%s' is no option\n%s", option, usage);
            return false;
        }
    }
    return true;
}

static enum kt_code read_settings(int argc, char **argv, char *(*get)(const char *name), const char *file,
                                  struct kt_settings *settings, struct kt_error *error)
{
    static const char *const names[] = {"KONTIKI_CONFIG", "RSTMDB_CONFIG"};
    enum kt_code code = KT_OK;

    for (size_t i = 0; !file && i < KT_COUNT(names); i++) {
        file = get(names[i]);
        if (file && !file[0])
            file = NULL;
    }
    if (file)
        code = kt_settings_file(settings, file, error);
    if (code == KT_OK)
        code = kt_settings_environment(settings, get, error);
    for (int i = 1; i < argc && code == KT_OK; i++) {
        if (strcmp(argv[i], "--config") == 0) {
            i++;
        } else if (strcmp(argv[i], "--set") == 0) {
            i++;
            code = kt_settings_assign(settings, argv[i], error);
        }
    }
    return code == KT_OK ? kt_settings_finish(settings, error) : code;
}

enum kt_options_next kt_options_read(int argc, char **argv, char *(*get)(const char *name),
                                     struct kt_settings *settings)
{
    struct asked asked = {0};
    struct kt_error error = {.text = ""};

    if (!read_arguments(argc, argv, &asked))
        return KT_OPTIONS_USAGE;
    if (asked.help) {
        fputs(usage, stdout);
        fputs("\nSettings, with their defaults:\n", stdout);
        kt_settings_help(stdout);
        return KT_OPTIONS_DONE;
    }
    if (asked.version) {
        puts("kontikid " KT_VERSION);
        return KT_OPTIONS_DONE;
    }
    if (asked.markdown) {
        kt_settings_markdown(stdout);
        return KT_OPTIONS_DONE;
    }
    if (read_settings(argc, argv, get, asked.file, settings, &error) != KT_OK) {
        fprintf(stderr, "kontikid: %s\n", error.text);
        return KT_OPTIONS_REFUSED;
    }
    if (asked.print) {
        kt_settings_print(settings, stdout);
        return KT_OPTIONS_DONE;
    }
    return KT_OPTIONS_RUN;
}

/* A subject for the fuzz driver that fails as the environment says: the driver must see it, or no fuzzer would fail. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *how = getenv("PROBE");

    /* Only for a mutated input: the corpus of this test begins with a brace. */
    if (!how || size == 0 || data[0] == '{')
        return 0;
    if (strcmp(how, "abort") == 0)
        abort();
    if (strcmp(how, "exit") == 0)
        _exit(0);
    return 0;
}

/* An .npy file of any bytes is read or refused, never a crash. */
#include "base/ft_npy.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    char path[] = "/tmp/flextrace-fuzz-XXXXXX";
    const int fd = mkstemp(path);
    FILE *f = fd < 0 ? NULL : fdopen(fd, "wb");
    if (!f || (n && fwrite(data, 1, n, f) != n) || fclose(f) != 0)
        abort();
    uint32_t *ids;
    size_t count;
    if (ft_npy_read_ids(path, &ids, &count, NULL) == FT_OK) {
        uint32_t sum = 0;
        for (size_t i = 0; i < count; i++)
            sum += ids[i];
        if (sum == 0 && count > n)
            abort();
    }
    free(ids);
    remove(path);
    return 0;
}

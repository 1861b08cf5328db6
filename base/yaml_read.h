/* yaml_read: a configuration file in YAML into a struct, by a libcyaml schema.
 *
 * Messages start with "PATH:LINE:". An unknown or repeated key is named with its line, what is no
 * integer, number or boolean is refused where one is expected, and so are aliases, a second document, nesting deeper
 * than 8, NUL characters, and files beyond YAML_MOST_BYTES. Threads  any. */
#ifndef FT_YAML_READ_H
#define FT_YAML_READ_H
#include "base/ft_status.h"

#include <cyaml/cyaml.h>

enum { YAML_MOST_BYTES = 64 << 10 };

typedef struct yaml_kind {
    const cyaml_schema_value_t *schema; /* a mapping, by pointer */
    const char *document;               /* that lists the keys: "docs/federation.md" */
    const char *needed;                 /* a key that an empty file lacks */
} yaml_kind;

/* The caller frees *out with yaml_free. */
FT_CHECKED ft_code yaml_read(void **out, const char *path, const yaml_kind *kind, ft_status *st);
void yaml_free(const yaml_kind *kind, void *value); /* NULL is allowed */
#endif

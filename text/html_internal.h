/* What the two files of the HTML reader share. */
#ifndef FT_HTML_INTERNAL_H
#define FT_HTML_INTERNAL_H
#include <stddef.h>
#include <stdint.h>

enum { FT_HTML_ENTITY_NAME = 10 }; /* longest name of the table, with its terminator */

typedef struct ft_html_entity {
    char name[FT_HTML_ENTITY_NAME];
    uint16_t code_point;
    uint8_t bare; /* 1: also understood without a semicolon ("&ampx" is "&x") */
} ft_html_entity;

/* The entity of that name, without & and ;, or NULL. */
const ft_html_entity *ft_html_entity_find(const char *name, size_t length);

#endif

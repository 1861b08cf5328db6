/* ft_status: how every call of the library reports a failure.
 *
 * A function that can fail returns an ft_code and takes an ft_status as its
 * last parameter. FT_OK leaves the status untouched. The first function that
 * sees the failure writes the message ("WHERE: WHAT; remedy"); callers pass the
 * code up and may put more context in front with ft_status_prefix.
 *
 * The library neither prints nor exits: api/ maps codes to exit codes and to
 * HTTP statuses, in one table each.
 *
 * Threads  a status belongs to the thread that passes it. */
#ifndef FT_STATUS_H
#define FT_STATUS_H

#define FT_CHECKED __attribute__((warn_unused_result))
#define FT_PRINTF(fmt_at, args_at) __attribute__((format(printf, fmt_at, args_at)))

/* Between these two stand the declarations that libflextrace.so exports. */
#define FT_API_BEGIN _Pragma("GCC visibility push(default)")
#define FT_API_END _Pragma("GCC visibility pop")

FT_API_BEGIN

typedef enum ft_code {
    FT_OK = 0,
    FT_ERR_ARG,         /* the caller asked the impossible; nothing changed */
    FT_ERR_MEM,         /* out of memory */
    FT_ERR_IO,          /* the system refused; the message carries path and reason */
    FT_ERR_FORMAT,      /* bytes from outside do not mean what they must */
    FT_ERR_NOT_FOUND,   /* an expected answer, not a fault */
    FT_ERR_LIMIT,       /* a configured ceiling was reached */
    FT_ERR_UNSUPPORTED, /* well-formed, but this build does not implement it */
    FT_ERR_CANCELLED    /* the caller's progress callback or signal said stop */
} ft_code;

typedef struct ft_status {
    ft_code code;
    char msg[480]; /* UTF-8, one line, NUL-terminated, cut at a character where too long */
} ft_status;

/* ft_fail(st, code, fmt, …) writes the message (unless `st` is NULL) and is `code`, so that
 * `return ft_fail(st, FT_ERR_IO, "%s: %s", path, strerror(errno));` is the idiom.
 * Control characters in the arguments are replaced by '?': a file name or a token from
 * outside cannot forge a second line. `code` is evaluated twice: that the value comes
 * back where the compiler sees it lets it, and static analysis, follow the failing path. */
#define ft_fail(st, code, ...) ft_status_code((code), ft_status_write((st), (code), __VA_ARGS__))

int ft_status_write(ft_status *st, ft_code code, const char *fmt, ...) FT_PRINTF(3, 4); /* always 0 */
static inline ft_code ft_status_code(ft_code code, int written)
{
    (void)written;
    return code;
}

/* Puts "prefix: " in front of the message of a failed status. */
void ft_status_prefix(ft_status *st, const char *fmt, ...) FT_PRINTF(2, 3);

/* "out of memory" and the like, for a code without a message. Never NULL. */
const char *ft_code_name(ft_code code);

FT_API_END
#endif

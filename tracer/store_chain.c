/* Two chains of lines, each holding the hash of the line before. The log says who asked what; the ledger says which
 * bytes every trace has. The number of lines and the hash of the last stand in "meta", so that a chain that lost
 * its end does not pass for a whole one. */
#define _GNU_SOURCE /* memmem */
#include "tracer/store_internal.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

_Static_assert(sizeof(ledger_line) == 96, "as docs/store.md draws it");

_Static_assert(sizeof(chain_head) == 40, "as docs/store.md draws it");

static const char log_head_key[] = "log head", ledger_head_key[] = "ledger head";

uint64_t store_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

ft_digest chain_hash(const void *bytes, size_t n)
{
    ft_digest d;
    crypto_generichash(d.bytes, sizeof(d.bytes), bytes, n, NULL, 0);
    return d;
}

ft_digest trace_digest(MDB_val trace, MDB_val routing, MDB_val row)
{
    ft_digest parts[3] = {chain_hash(trace.mv_data, trace.mv_size), chain_hash(routing.mv_data, routing.mv_size),
                          chain_hash(row.mv_data, row.mv_size)};
    return chain_hash(parts, sizeof(parts));
}

void chain_number(uint64_t n, unsigned char out[8])
{
    for (int i = 0; i < 8; i++)
        out[i] = (unsigned char)(n >> (56 - 8 * i));
}

uint64_t chain_number_of(const MDB_val *key)
{
    uint64_t n = 0;
    const unsigned char *bytes = key->mv_data;
    for (size_t i = 0; i < key->mv_size && i < 8; i++)
        n = n << 8 | bytes[i];
    return n;
}

int chain_head_get(ft_store *s, MDB_txn *txn, const char *name, chain_head *out)
{
    MDB_val key = store_value(name, strlen(name)), value;
    memset(out, 0, sizeof(*out));
    const int error = mdb_get(txn, s->meta, &key, &value);
    if (!error && value.mv_size != sizeof(*out))
        return MDB_CORRUPTED;
    if (!error)
        memcpy(out, value.mv_data, sizeof(*out));
    return error == MDB_NOTFOUND ? 0 : error;
}

int chain_head_put(ft_store *s, MDB_txn *txn, const char *name, const chain_head *head)
{
    MDB_val key = store_value(name, strlen(name)), value = store_value(head, sizeof(*head));
    return mdb_put(txn, s->meta, &key, &value, 0);
}

static int append(ft_store *s, MDB_txn *txn, MDB_dbi database, const char *name, chain_head *head, const void *line,
                  size_t n, ft_digest hash)
{
    unsigned char number[8];
    chain_number(head->count + 1, number);
    MDB_val key = store_value(number, sizeof(number)), value = store_value(line, n);
    int error = mdb_put(txn, database, &key, &value, MDB_APPEND);
    if (error)
        return error == MDB_KEYEXIST ? MDB_CORRUPTED : error; /* lines behind the head's */
    head->count++;
    head->last = hash;
    return chain_head_put(s, txn, name, head);
}

int ledger_append(ft_store *s, MDB_txn *txn, ledger_kind kind, const unsigned char id[STORE_ID],
                  const ft_digest *digest, uint64_t time_ms)
{
    chain_head head;
    ledger_line line = {.time_ms = time_ms, .kind = (uint64_t)kind};
    const int error = chain_head_get(s, txn, ledger_head_key, &head);
    if (error)
        return error;
    memcpy(line.previous, head.last.bytes, sizeof(line.previous));
    memcpy(line.id, id, STORE_ID);
    memcpy(line.digest, digest->bytes, sizeof(line.digest));
    return append(s, txn, s->ledger, ledger_head_key, &head, &line, sizeof(line), chain_hash(&line, sizeof(line)));
}

static void time_text(uint64_t ms, char out[32])
{
    struct tm utc;
    const time_t seconds = (time_t)(ms / 1000);
    char to_seconds[24] = "1970-01-01T00:00:00";
    if (gmtime_r(&seconds, &utc))
        (void)strftime(to_seconds, sizeof(to_seconds), "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(out, 32, "%s.%03uZ", to_seconds, (unsigned)(ms % 1000));
}

/* The line's own fields first, `text` (fields as JSON, without braces), the hash of the line before last. */
int log_append(ft_store *s, MDB_txn *txn, const char *text, size_t n, uint64_t time_ms)
{
    chain_head head;
    char when[32], hex[FT_DIGEST_HEX];
    ft_buffer line = {0};
    int error = chain_head_get(s, txn, log_head_key, &head);
    if (error)
        return error;
    time_text(time_ms, when);
    ft_digest_hex(&head.last, hex);
    ft_code rc =
        ft_buffer_printf(&line, NULL, "{\"seq\":%llu,\"time\":\"%s\",", (unsigned long long)head.count + 1, when);
    if (!rc)
        rc = ft_buffer_append(&line, text, n, NULL);
    if (!rc)
        rc = ft_buffer_printf(&line, NULL, ",\"prev\":\"%s\"}", hex);
    error = rc ? ENOMEM
               : append(s, txn, s->log, log_head_key, &head, line.data, line.size, ft_digest_of(line.data, line.size));
    ft_buffer_release(&line);
    return error;
}

int chain_heads(ft_store *s, MDB_txn *txn, ft_store_heads *out)
{
    chain_head log, ledger;
    int error = chain_head_get(s, txn, log_head_key, &log);
    if (!error)
        error = chain_head_get(s, txn, ledger_head_key, &ledger);
    if (!error)
        error = receipts_head(s, txn, &out->receipts);
    if (error)
        return error;
    out->log_count = log.count;
    out->log = log.last;
    out->ledger_count = ledger.count;
    out->ledger = ledger.last;
    return 0;
}

ft_code ft_store_get_heads(ft_store *s, ft_store_heads *out, ft_status *st)
{
    MDB_txn *txn;
    const ft_code rc = store_read_begin(s, &txn, "heads", st);
    if (rc)
        return rc;
    const int error = chain_heads(s, txn, out);
    store_read_end(s, txn);
    return error ? store_fail(s, error, "heads", st) : FT_OK;
}

/* --- Writing and reading the log ---------------------------------------------------------------------- */

/* `note`: the key in "meta" that gets the line's number; NULL: none. `with`: what is written together with it, or NULL.
 */
static ft_code write_log(ft_store *s, const char *note, const char *who, const char *what, json_t *fields,
                         store_op *with, ft_status *st)
{
    ft_buffer text = {0};
    json_t *line = json_pack("{s:s,s:s}", "who", who, "what", what);
    ft_code rc = line && (!fields || json_object_update_missing(line, fields) == 0)
                     ? FT_OK
                     : ft_fail(st, FT_ERR_MEM, "%s: no room for a line of the log", s->folder);
    if (!rc && (json_object_get(line, "seq") || json_object_get(line, "time") || json_object_get(line, "prev")))
        rc = ft_fail(st, FT_ERR_ARG, "%s: a line of the log has seq, time and prev of its own", s->folder);
    if (!rc)
        rc = ft_json_write(line, &text, st);
    if (!rc) {
        store_op op = {.kind = OP_LOG, .text = text.data + 1, .text_bytes = text.size - 2, .note = note, .with = with};
        rc = store_commit(s, &op, st);
    }
    json_decref(line);
    json_decref(fields);
    ft_buffer_release(&text);
    return rc;
}

ft_code ft_store_log(ft_store *s, const char *who, const char *what, json_t *fields, ft_status *st)
{
    return write_log(s, NULL, who, what, fields, NULL, st);
}

ft_code ft_store_log_with(ft_store *s, const char *who, const char *what, json_t *fields,
                          const ft_receipt_entry *receipt, ft_status *st)
{
    ft_digest leaf;
    store_op op;
    const ft_code rc = receipt->envelope ? receipt_op(s, receipt, &leaf, &op, st) : FT_OK;
    if (!rc)
        return write_log(s, NULL, who, what, fields, receipt->envelope ? &op : NULL, st);
    json_decref(fields);
    return rc;
}

/* The note that holds the number of the line of that name. */
enum { MOST_LINE_NAME = 390, LINE_NOTE = MOST_LINE_NAME + 16 };
static ft_code line_note(const ft_store *s, const char *name, char note[LINE_NOTE], ft_status *st)
{
    if (!name[0] || strlen(name) > MOST_LINE_NAME)
        return ft_fail(st, FT_ERR_ARG, "%s: a line's name has 1 to %d bytes", s->folder, MOST_LINE_NAME);
    snprintf(note, LINE_NOTE, "note:line:%s", name);
    return FT_OK;
}

ft_code ft_store_log_as(ft_store *s, const char *name, const char *who, const char *what, json_t *fields, ft_status *st)
{
    char note[LINE_NOTE];
    const ft_code rc = line_note(s, name, note, st);
    if (!rc)
        return write_log(s, note, who, what, fields, NULL, st);
    json_decref(fields);
    return rc;
}

ft_code ft_store_log_line(ft_store *s, uint64_t number, json_t **line, ft_status *st)
{
    unsigned char bytes[8];
    char where[40];
    MDB_txn *txn;
    *line = NULL;
    ft_code rc = store_read_begin(s, &txn, "log", st);
    if (rc)
        return rc;
    chain_number(number, bytes);
    snprintf(where, sizeof(where), "log, line %llu", (unsigned long long)number);
    MDB_val key = store_value(bytes, sizeof(bytes)), value;
    const int error = mdb_get(txn, s->log, &key, &value);
    if (error == MDB_NOTFOUND)
        rc = ft_fail(st, FT_ERR_NOT_FOUND, "%s: no %s", s->folder, where);
    else
        rc = error ? store_fail(s, error, "log", st) : ft_json_parse(line, value.mv_data, value.mv_size, where, st);
    store_read_end(s, txn);
    return rc;
}

ft_code ft_store_logged(ft_store *s, const char *name, json_t **line, ft_status *st)
{
    char note[LINE_NOTE];
    ft_buffer number = {0};
    *line = NULL;
    ft_code rc = line_note(s, name, note, st);
    if (!rc)
        rc = ft_store_note_get(s, note + strlen("note:"), &number, st);
    if (!rc)
        rc = ft_store_log_line(s, strtoull(number.data ? number.data : "", NULL, 10), line, st);
    ft_buffer_release(&number);
    return rc;
}

/* A few hundred lines a transaction, copied out, so that a long walk holds no snapshot. */
ft_code ft_store_walk_log(ft_store *s, uint64_t from, ft_log_visit *visit, void *context, ft_status *st)
{
    enum { AT_ONCE = 256 };
    ft_buffer copy = {0};
    struct {
        uint64_t number;
        size_t start;
    } lines[AT_ONCE + 1];
    ft_code rc = FT_OK;
    for (int over = 0; !rc && !over;) {
        unsigned char number[8];
        size_t n = 0;
        MDB_txn *txn;
        MDB_cursor *cursor = NULL;
        ft_buffer_reset(&copy);
        chain_number(from, number);
        MDB_val key = store_value(number, sizeof(number)), value;
        rc = store_read_begin(s, &txn, "log", st);
        if (rc)
            break;
        int error = mdb_cursor_open(txn, s->log, &cursor);
        if (!error)
            error = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
        for (; !error && !rc && n < AT_ONCE; error = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) {
            lines[n].number = chain_number_of(&key);
            lines[n++].start = copy.size;
            rc = ft_buffer_append(&copy, value.mv_data, value.mv_size, st);
        }
        lines[n].start = copy.size;
        if (cursor)
            mdb_cursor_close(cursor);
        store_read_end(s, txn);
        if (!rc && error && error != MDB_NOTFOUND)
            rc = store_fail(s, error, "log", st);
        over = error == MDB_NOTFOUND || !n;
        for (size_t i = 0; !rc && i < n; i++)
            rc = visit(context, lines[i].number, copy.data + lines[i].start, lines[i + 1].start - lines[i].start, st);
        from = n ? lines[n - 1].number + 1 : from;
    }
    ft_buffer_release(&copy);
    return rc;
}

typedef struct log_reader {
    const ft_log_query *q;
    json_t *lines;
    uint64_t next;
    size_t looked;
} log_reader;

static int log_fits(const ft_log_query *q, const json_t *line)
{
    const char *what = json_string_value(json_object_get(line, "what")),
               *who = json_string_value(json_object_get(line, "who"));
    const char *when = json_string_value(json_object_get(line, "time"));
    char from[32], to[32];
    time_text(q->from_ms, from);
    time_text(q->to_ms, to);
    return what && when && (!q->prefix || !strncmp(what, q->prefix, strlen(q->prefix))) &&
           (!q->who || (who && !strcmp(who, q->who))) && strcmp(when, from) >= 0 && (!q->to_ms || strcmp(when, to) < 0);
}

/* 0: the line is of something else, which its text tells: most lines need not be parsed. */
static int may_fit(const ft_log_query *q, const char *text, size_t n)
{
    char what[80];
    const size_t plain = q->prefix ? strspn(q->prefix, "abcdefghijklmnopqrstuvwxyz._-") : 0;
    if (!plain || q->prefix[plain] || plain > sizeof(what) - 16)
        return 1;
    const int length = snprintf(what, sizeof(what), "\"what\":\"%s", q->prefix);
    return memmem(text, n, what, (size_t)length) != NULL;
}

static ft_code read_line(void *context, uint64_t number, const char *text, size_t n, ft_status *st)
{
    enum { MOST_LOOKED_AT = 20000 };
    log_reader *r = context;
    json_t *line = NULL;
    r->next = number;
    if (json_array_size(r->lines) >= r->q->limit || ++r->looked > MOST_LOOKED_AT)
        return FT_ERR_CANCELLED;
    const ft_code rc = may_fit(r->q, text, n) ? ft_json_parse(&line, text, n, "log", st) : FT_OK;
    if (line && log_fits(r->q, line))
        (void)json_array_append(r->lines, line);
    json_decref(line);
    r->next = 0;
    return rc;
}

ft_code ft_store_read_log(ft_store *s, const ft_log_query *q, json_t **lines, uint64_t *next, ft_status *st)
{
    log_reader r = {.q = q, .lines = json_array()};
    *lines = NULL;
    *next = 0;
    if (!r.lines)
        return ft_fail(st, FT_ERR_MEM, "%s: out of memory", s->folder);
    ft_code rc = ft_store_walk_log(s, q->from ? q->from : 1, read_line, &r, st);
    if (rc && rc != FT_ERR_CANCELLED) {
        json_decref(r.lines);
        return rc;
    }
    *lines = r.lines;
    *next = rc ? r.next : 0;
    return FT_OK;
}

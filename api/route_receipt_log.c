/* /v1/receipts: the head of the log of receipts, and proofs. */
#include "api/compliance_internal.h"
#include "tracer/ft_receipt_log.h"

#include <string.h>

/* 0 after refusing. */
static int open_log(ft_request *q, ft_receipt_log *out)
{
    ft_server *s = q->server;
    if (!ft_needs_store(q))
        return 0;
    if (!s->keys.signer) {
        ft_refuse(
            q, 404, "no-signing-key", NULL,
            "this server signs neither receipts nor their log: its federation names no signing_key ('flextrace key "
            "new --signing' makes one)");
        return 0;
    }
    ft_receipt_log_init(out, s->store, s->keys.signer, ft_federation_name(s->federation));
    return 1;
}

/* A number of leaves out of the URL; *size stays what it is without one. 0 after refusing. */
static int read_size(ft_request *q, const char *name, uint64_t *size)
{
    int64_t n = -1;
    if (!ft_request_query_int(q, name, 0, INT64_MAX, &n))
        return 0;
    if (n >= 0)
        *size = (uint64_t)n;
    return 1;
}

/* Sizes that the log does not have are the client's mistake; `param` is the one at fault. */
static void refuse(ft_request *q, const char *param, const ft_status *st)
{
    if (st->code == FT_ERR_ARG)
        ft_refuse(q, 400, "invalid-parameter", param, "%s", st->msg);
    else
        ft_refuse_status(q, NULL, st);
}

/* Whether the note alone is wanted. 0 after refusing another format. */
static int read_format(ft_request *q, int *note)
{
    const char *format = ft_request_query(q, "format"), *accept = ft_request_header(q, "Accept");
    *note = format ? !strcmp(format, "note")
                   : accept && strstr(accept, "text/plain") && !strstr(accept, "application/json");
    if (!format || *note || !strcmp(format, "json"))
        return 1;
    ft_refuse(q, 400, "invalid-parameter", "format", "'format' must be \"json\" or \"note\"");
    return 0;
}

void ft_route_receipt_log(ft_request *q)
{
    ft_receipt_log log;
    ft_status st = {0};
    json_t *head = NULL;
    uint64_t size = FT_TREE_NEWEST;
    int note;
    if (!read_size(q, "size", &size) || !read_format(q, &note) || !open_log(q, &log))
        return;
    if (ft_receipt_log_head(&log, size, &head, &st)) {
        refuse(q, "size", &st);
        return;
    }
    const json_t *text = json_object_get(head, "checkpoint");
    if (note)
        ft_answer_bytes(q, 200, "text/plain; charset=utf-8", json_string_value(text), json_string_length(text));
    else
        ft_answer_json(q, 200, json_incref(head));
    json_decref(head);
}

/* A page of the log's leaves, which whoever watches the log computes its root from. */
void ft_route_receipt_entries(ft_request *q)
{
    ft_receipt_log log;
    ft_status st = {0};
    json_t *list = NULL;
    int64_t limit = 20;
    ft_log_page page = {.after = FT_TREE_NEWEST, .before = FT_TREE_NEWEST};
    const char *order = ft_request_query(q, "order");
    if (!ft_request_query_int(q, "limit", 1, FT_LOG_ENTRIES, &limit) || !read_size(q, "after", &page.after) ||
        !read_size(q, "before", &page.before))
        return;
    if (order && strcmp(order, "asc") != 0 && strcmp(order, "desc") != 0)
        ft_refuse(q, 400, "invalid-parameter", "order", "'order' must be \"asc\" or \"desc\"");
    else if (page.after != FT_TREE_NEWEST && page.before != FT_TREE_NEWEST)
        ft_refuse(q, 400, "invalid-parameter", "before", "give 'after' or 'before', not both");
    if (q->answered || !open_log(q, &log))
        return;
    page.limit = (size_t)limit;
    page.descending = order && !strcmp(order, "desc");
    if (ft_receipt_log_entries(log.store, &page, &list, &st))
        ft_refuse_status(q, NULL, &st);
    else
        ft_answer_json(q, 200, list);
}

/* ?leaf=sha256:HEX: of that envelope, where the receipt was given out in several. */
void ft_route_receipt_proof(ft_request *q)
{
    static const char head[] = "sha256:";
    ft_receipt_log log;
    ft_digest leaf;
    ft_status st = {0};
    json_t *proof = NULL;
    uint64_t size = FT_TREE_NEWEST;
    const char *text = ft_request_query(q, "leaf");
    if (text && ft_digest_parse(&leaf, text + (strncmp(text, head, sizeof(head) - 1) ? 0 : sizeof(head) - 1), NULL)) {
        ft_refuse(q, 400, "invalid-parameter", "leaf", "'leaf' must be sha256: and 64 hexadecimal digits");
        return;
    }
    if (!read_size(q, "size", &size) || !open_log(q, &log) || !ft_log_request(q, "receipt.proof"))
        return;
    const ft_code rc = ft_receipt_log_proof(&log, q->segment[0], text ? &leaf : NULL, size, &proof, &st);
    if (rc == FT_ERR_NOT_FOUND && text)
        ft_refuse(q, 404, "not-found", NULL, "the log of receipts has no envelope of '%s' with this leaf",
                  q->segment[0]);
    else if (rc == FT_ERR_NOT_FOUND)
        ft_refuse(q, 404, "not-found", NULL,
                  "the log of receipts has no '%s'; a receipt is in it from when it is first given out", q->segment[0]);
    else if (rc)
        refuse(q, "size", &st);
    else
        ft_answer_json(q, 200, proof);
}

void ft_route_receipt_consistency(ft_request *q)
{
    ft_receipt_log log;
    ft_status st = {0};
    json_t *proof = NULL;
    uint64_t from = FT_TREE_NEWEST, to = FT_TREE_NEWEST;
    if (!read_size(q, "from", &from) || !read_size(q, "to", &to))
        return;
    if (!ft_request_query(q, "from"))
        ft_refuse(q, 400, "invalid-parameter", "from", "'from' is required: the size of the head that you have");
    else if (from > to)
        ft_refuse(q, 400, "invalid-parameter", "from", "'from' must not be more than 'to'");
    if (q->answered || !open_log(q, &log))
        return;
    if (ft_receipt_log_consistency(&log, from, to, &proof, &st))
        refuse(q, to == FT_TREE_NEWEST ? "from" : "to", &st);
    else
        ft_answer_json(q, 200, proof);
}

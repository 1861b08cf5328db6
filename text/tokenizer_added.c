/* Added tokens in text: leftmost, then longest, in two passes. */
#include "text/tokenizer_internal.h"

#include <string.h>

static ft_code new_node(ft_trie *trie, uint8_t byte, uint32_t *at, ft_status *st)
{
    if (!trie->count) { /* the root, so that 0 can mean "none" */
        ft_code rc = ft_array_grow((void **)&trie->nodes, &trie->capacity, 1, sizeof(*trie->nodes), st);
        if (rc)
            return rc;
        trie->nodes[trie->count++] = (ft_trie_node){.token = FT_NO_TOKEN};
    }
    ft_code rc = ft_array_grow((void **)&trie->nodes, &trie->capacity, trie->count + 1, sizeof(*trie->nodes), st);
    if (rc)
        return rc;
    *at = (uint32_t)trie->count;
    trie->nodes[trie->count++] = (ft_trie_node){.token = FT_NO_TOKEN, .byte = byte};
    return FT_OK;
}

static uint32_t find_child(const ft_trie *trie, uint32_t node, uint8_t byte)
{
    uint32_t at = trie->nodes[node].child;
    while (at && trie->nodes[at].byte != byte)
        at = trie->nodes[at].next;
    return at;
}

ft_code ft_trie_add(ft_trie *trie, const char *text, size_t n, uint32_t token, int *taken, ft_status *st)
{
    *taken = 0;
    uint32_t node = 0;
    for (size_t i = 0; i < n; i++) {
        const uint8_t byte = (uint8_t)text[i];
        uint32_t child = i ? find_child(trie, node, byte) : trie->first[byte];
        if (!child) {
            ft_code rc = new_node(trie, byte, &child, st);
            if (rc)
                return rc;
            if (i) {
                trie->nodes[child].next = trie->nodes[node].child;
                trie->nodes[node].child = child;
            } else {
                trie->first[byte] = child;
                if (trie->firsts_count < FT_TRIE_FEW)
                    trie->firsts[trie->firsts_count] = byte;
                trie->firsts_count++;
            }
        }
        node = child;
    }
    *taken = trie->nodes[node].token != FT_NO_TOKEN;
    if (!*taken)
        trie->nodes[node].token = token;
    return FT_OK;
}

/* The longest added token that starts here: its bytes, or 0. */
static size_t longest_match(const ft_trie *trie, const char *p, size_t n, uint32_t *token)
{
    size_t best = 0;
    uint32_t node = trie->first[(uint8_t)p[0]];
    for (size_t i = 1; node; i++) {
        if (trie->nodes[node].token != FT_NO_TOKEN) {
            best = i;
            *token = trie->nodes[node].token;
        }
        node = i < n ? find_child(trie, node, (uint8_t)p[i]) : 0;
    }
    return best;
}

/* Where the next byte is that an added token begins with, or `end`. As long as few
 * bytes are such, eight at a time: a byte less one borrows from its top bit only if
 * it was 0, or above one that was. */
static uint32_t find_first(const ft_trie *trie, const char *text, uint32_t at, uint32_t end)
{
    const uint64_t ones = UINT64_C(0x0101010101010101);
    if (trie->firsts_count <= FT_TRIE_FEW)
        for (; end - at >= 8; at += 8) {
            uint64_t eight, found = 0;
            memcpy(&eight, text + at, 8);
            for (size_t k = 0; k < trie->firsts_count; k++) {
                const uint64_t unlike = eight ^ ones * trie->firsts[k];
                found |= (unlike - ones) & ~unlike;
            }
            if (found & ones << 7)
                break;
        }
    while (at < end && !trie->first[(uint8_t)text[at]])
        at++;
    return at;
}

static int in_class(const ft_classes *c, const char *p)
{
    unsigned length;
    return ft_class_of(c, ft_utf8_decode((const unsigned char *)p, &length));
}

/* Start of the character that ends before `at`. */
static uint32_t step_back(const char *text, uint32_t at)
{
    do
        at--;
    while (((unsigned char)text[at] & 0xC0) == 0x80);
    return at;
}

static uint32_t step_over(const char *text, uint32_t at)
{
    unsigned length;
    ft_utf8_decode((const unsigned char *)text + at, &length);
    return at + length;
}

static int is_single_word(const ft_tokenizer *t, const char *text, const ft_piece *p, uint32_t start, uint32_t end)
{
    return (start == p->start || !in_class(t->word, text + step_back(text, start))) &&
           (end == p->end || !in_class(t->word, text + end));
}

static ft_code split_piece(ft_work *w, const ft_trie *trie, const ft_piece *p, ft_status *st)
{
    const ft_tokenizer *t = w->t;
    const ft_layer *l = ft_work_layer(w);
    const char *text = l->text;
    uint32_t done = p->start;
    ft_code rc = FT_OK;
    for (uint32_t at = p->start; !rc && (at = find_first(trie, text, at, p->end)) < p->end;) {
        uint32_t index = 0;
        const size_t n = longest_match(trie, text + at, p->end - at, &index);
        if (!n) {
            at++;
            continue;
        }
        const ft_added_token *token = &t->added[index];
        uint32_t start = at, end = at + (uint32_t)n;
        at = end;
        if (token->single_word && !is_single_word(t, text, p, start, end))
            continue;
        if (token->lstrip)
            while (start > done && in_class(t->space, text + step_back(text, start)))
                start = step_back(text, start);
        if (token->lstrip && start < done)
            start = done;
        if (token->rstrip)
            while (end < p->end && in_class(t->space, text + end))
                end = step_over(text, end);
        if (start > end)
            return ft_fail(st, FT_ERR_UNSUPPORTED, "added token '%s' begins in space that the one before has taken",
                           t->strings.data + token->content.at);
        if (done < start)
            rc = ft_pieces_push(&w->next, ft_piece_slice(l, p, done, start), st);
        if (!rc && start < end) { /* what others have taken whole is no token */
            ft_piece piece = ft_piece_slice(l, p, start, end);
            piece.token = token->id;
            rc = ft_pieces_push(&w->next, piece, st);
        }
        done = end;
    }
    if (!rc && done != p->end)
        rc = ft_pieces_push(&w->next, ft_piece_slice(l, p, done, p->end), st);
    return rc;
}

ft_code ft_work_split_added(ft_work *w, const ft_trie *trie, ft_status *st)
{
    if (!trie->count)
        return FT_OK;
    w->next.count = 0;
    ft_code rc = FT_OK;
    for (size_t i = 0; !rc && i < w->pieces.count; i++) {
        const ft_piece p = w->pieces.items[i];
        rc = p.token == FT_NO_TOKEN ? split_piece(w, trie, &p, st) : ft_pieces_push(&w->next, p, st);
    }
    const ft_pieces pieces = w->pieces;
    w->pieces = w->next;
    w->next = pieces;
    return rc;
}

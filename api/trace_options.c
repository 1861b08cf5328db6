/* How a trace is made, as a request says it: of a text that is given, and of one that is written. */
#include "api/completion_internal.h"

#include <string.h>

ft_code ft_trace_options_read(const json_t *v, ft_trace_options *o, const char **field, ft_status *st)
{
    enum { NAME = sizeof("options/") - 1 };
    *field = "options";
    if (!v || json_is_null(v))
        return FT_OK;
    if (!json_is_object(v))
        return ft_fail(st, FT_ERR_ARG, "'options' must be an object");
    static const char *const known[] = {"min_len",       "max_cnt",        "density",         "rank",
                                        "max_documents", "snippet_tokens", "document_tokens", "document_places",
                                        "enforce_bow",   "sample_seed"};
    const char *key, *rank = NULL;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)v, key, value)
    {
        size_t i = 0;
        while (i < sizeof(known) / sizeof(*known) && strcmp(known[i], key) != 0)
            i++;
        if (i == sizeof(known) / sizeof(*known))
            return ft_fail(st, FT_ERR_ARG, "'options' has no field '%.60s'", key);
    }
    int64_t min_len = (int64_t)o->rules.min_len, max_cnt = (int64_t)o->rules.max_cnt;
    int64_t documents = (int64_t)o->max_documents, snippet = (int64_t)o->snippet_tokens;
    int64_t text = (int64_t)o->document_tokens, seed = (int64_t)o->sample_seed;
    int whole_words = o->rules.word_starts != NULL;
    ft_code rc = ft_json_get_int(v, (*field = "options/min_len") + NAME, 1, INT32_MAX, &min_len, st);
    if (!rc)
        rc = ft_json_get_int(v, (*field = "options/max_cnt") + NAME, 1, INT64_MAX, &max_cnt, st);
    if (!rc)
        rc = ft_json_get_number(v, (*field = "options/density") + NAME, 0, 1, &o->rules.density, st);
    if (!rc)
        rc = ft_json_get_int(v, (*field = "options/max_documents") + NAME, 0, 100, &documents, st);
    if (!rc)
        rc = ft_json_get_int(v, (*field = "options/snippet_tokens") + NAME, 0, 1000, &snippet, st);
    if (!rc)
        rc = ft_json_get_int(v, (*field = "options/document_tokens") + NAME, 0, 10000, &text, st);
    if (!rc)
        rc = ft_json_get_int(v, (*field = "options/sample_seed") + NAME, 0, INT64_MAX, &seed, st);
    if (!rc)
        rc = ft_json_get_bool(v, (*field = "options/document_places") + NAME, &o->document_places, st);
    if (!rc)
        rc = ft_json_get_bool(v, (*field = "options/enforce_bow") + NAME, &whole_words, st);
    if (!rc)
        rc = ft_json_get_string(v, (*field = "options/rank") + NAME, &rank, st);
    if (!rc && rank && strcmp(rank, "unigram") != 0 && strcmp(rank, "length") != 0)
        rc = ft_fail(st, FT_ERR_ARG, "'rank' must be \"unigram\" or \"length\"");
    if (rc)
        return rc;
    o->rules.min_len = (size_t)min_len;
    o->rules.max_cnt = (uint64_t)max_cnt;
    o->max_documents = (size_t)documents;
    o->snippet_tokens = (size_t)snippet;
    o->document_tokens = (size_t)text;
    o->sample_seed = (uint64_t)seed;
    if (!whole_words)
        o->rules.word_starts = NULL;
    if (rank)
        o->rules.rank = strcmp(rank, "length") == 0 ? FT_RANK_LENGTH : FT_RANK_UNIGRAM;
    return FT_OK;
}

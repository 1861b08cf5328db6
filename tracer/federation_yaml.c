/* Reading federation.yaml: what it may say. */
#include "base/ft_file.h"
#include "base/yaml_read.h"
#include "tracer/federation_internal.h"

#include <string.h>
#include <yaml.h>

enum { MAX_OWNERS = 64, MAX_INDEXES = 256, MAX_OLD_KEYS = 63 };

/* --- Schema -------------------------------------------------------------------- */

static const cyaml_schema_value_t index_schema = {
    CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char, 1, 4095),
};
#define OPTIONAL (CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL)
#define SOURCE_TEXT(field, most) CYAML_FIELD_STRING_PTR(#field, OPTIONAL, yaml_source, field, 1, most)
static const cyaml_schema_field_t source_fields[] = {
    SOURCE_TEXT(kind, 20),
    SOURCE_TEXT(licence, 1000),
    SOURCE_TEXT(link, 1000),
    SOURCE_TEXT(collected_from, 20),
    SOURCE_TEXT(collected_to, 20),
    CYAML_FIELD_INT_PTR("tokens", OPTIONAL, yaml_source, tokens),
    CYAML_FIELD_BOOL_PTR("ongoing", OPTIONAL, yaml_source, ongoing),
    SOURCE_TEXT(description, 8000),
    SOURCE_TEXT(crawler, 1000),
    SOURCE_TEXT(crawler_behaviour, 4000),
    SOURCE_TEXT(generator, 2000),
    CYAML_FIELD_END,
};
#define SUMMARY_TEXT(field, most) CYAML_FIELD_STRING_PTR(#field, OPTIONAL, yaml_summary, field, 1, most)
static const cyaml_schema_field_t summary_fields[] = {
    SUMMARY_TEXT(provider, 1000),
    SUMMARY_TEXT(contact, 1000),
    SUMMARY_TEXT(representative, 1000),
    SUMMARY_TEXT(model, 200),
    SUMMARY_TEXT(version, 200),
    SUMMARY_TEXT(dependencies, 4000),
    SUMMARY_TEXT(placed_on_market, 200),
    SUMMARY_TEXT(content_types, 4000),
    SUMMARY_TEXT(languages, 4000),
    SUMMARY_TEXT(reservations, 8000),
    CYAML_FIELD_BOOL_PTR("code_of_practice", OPTIONAL, yaml_summary, code_of_practice),
    SUMMARY_TEXT(illegal_content, 8000),
    SUMMARY_TEXT(notes, 8000),
    CYAML_FIELD_BOOL_PTR("sme", OPTIONAL, yaml_summary, sme),
    CYAML_FIELD_END,
};
static const cyaml_schema_field_t owner_fields[] = {
    CYAML_FIELD_STRING_PTR("name", CYAML_FLAG_POINTER, yaml_owner, name, 1, 200),
    CYAML_FIELD_STRING_PTR("description", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, yaml_owner, description, 0, 4000),
    CYAML_FIELD_INT_PTR("expert", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, yaml_owner, expert),
    CYAML_FIELD_BOOL("opted_out", CYAML_FLAG_OPTIONAL, yaml_owner, opted_out),
    CYAML_FIELD_MAPPING_PTR("source", OPTIONAL, yaml_owner, source, source_fields),
    CYAML_FIELD_SEQUENCE("index", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, yaml_owner, index, &index_schema, 0,
                         MAX_INDEXES),
    CYAML_FIELD_END,
};
static const cyaml_schema_value_t owner_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, yaml_owner, owner_fields),
};
#define LIMIT(field) CYAML_FIELD_INT_PTR(#field, CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, yaml_limits, field)
static const cyaml_schema_field_t limit_fields[] = {
    LIMIT(request_bytes), LIMIT(request_seconds), LIMIT(max_running), LIMIT(max_waiting),
    LIMIT(connections),   LIMIT(kv_bytes),        CYAML_FIELD_END,
};
#define KEY_TIME(field) CYAML_FIELD_STRING_PTR(#field, CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, yaml_key, field, 1, 40)
static const cyaml_schema_field_t key_fields[] = {
    CYAML_FIELD_STRING_PTR("public", CYAML_FLAG_POINTER, yaml_key, public, 1, 4095),
    KEY_TIME(from),
    KEY_TIME(to),
    KEY_TIME(revoked_at),
    CYAML_FIELD_END,
};
static const cyaml_schema_value_t key_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, yaml_key, key_fields),
};
#define NUMBER(field) CYAML_FIELD_FLOAT_PTR(#field, CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, yaml_evidence, field)
static const cyaml_schema_field_t evidence_fields[] = {
    NUMBER(verbatim_tokens), NUMBER(verbatim_nats),         NUMBER(routing_excess), NUMBER(routing_ratio),
    NUMBER(causal_nats),     NUMBER(causal_nats_per_token), CYAML_FIELD_END,
};
#define KEEP(field) CYAML_FIELD_INT_PTR(#field, CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, yaml_traces, field)
static const cyaml_schema_field_t trace_fields[] = {
    CYAML_FIELD_STRING_PTR("routing", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, yaml_traces, routing, 1, 20),
    KEEP(min_days),
    KEEP(max_days),
    KEEP(max_bytes),
    CYAML_FIELD_END,
};
#define PATH(field, flag) CYAML_FIELD_STRING_PTR(#field, CYAML_FLAG_POINTER | (flag), yaml_federation, field, 1, 4095)
static const cyaml_schema_field_t federation_fields[] = {
    CYAML_FIELD_STRING_PTR("name", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, yaml_federation, name, 1, 200),
    CYAML_FIELD_STRING_PTR("listen", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, yaml_federation, listen, 1, 300),
    CYAML_FIELD_STRING_PTR("chat_template", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, yaml_federation, chat_template, 1,
                           100),
    PATH(model, CYAML_FLAG_DEFAULT),
    PATH(store, CYAML_FLAG_OPTIONAL),
    PATH(validation, CYAML_FLAG_OPTIONAL),
    CYAML_FIELD_INT_PTR("validation_tokens", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, yaml_federation,
                        validation_tokens),
    CYAML_FIELD_MAPPING_PTR("evidence", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, yaml_federation, evidence,
                            evidence_fields),
    PATH(signing_key, CYAML_FLAG_OPTIONAL),
    CYAML_FIELD_SEQUENCE("old_keys", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, yaml_federation, old_keys, &key_schema,
                         0, MAX_OLD_KEYS),
    CYAML_FIELD_STRING_PTR("compute", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, yaml_federation, compute, 1, 20),
    CYAML_FIELD_STRING_PTR("kv_type", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, yaml_federation, kv_type, 1, 20),
    CYAML_FIELD_SEQUENCE("owners", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, yaml_federation, owners, &owner_schema, 0,
                         MAX_OWNERS),
    CYAML_FIELD_MAPPING_PTR("limits", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, yaml_federation, limits, limit_fields),
    CYAML_FIELD_MAPPING_PTR("traces", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, yaml_federation, traces, trace_fields),
    CYAML_FIELD_MAPPING_PTR("summary", OPTIONAL, yaml_federation, summary, summary_fields),
    CYAML_FIELD_END,
};
static const cyaml_schema_value_t federation_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, yaml_federation, federation_fields),
};

static const yaml_kind kind = {.schema = &federation_schema, .document = "docs/federation.md", .needed = "model"};

ft_code yaml_federation_read(yaml_federation **out, const char *path, ft_status *st)
{
    void *read;
    const ft_code rc = yaml_read(&read, path, &kind, st);
    *out = read;
    return rc;
}

size_t yaml_federation_line(const char *path, const char *before, const char *text, unsigned nth)
{
    ft_buffer file;
    ft_buffer_init(&file, 0);
    yaml_parser_t parser;
    size_t line = 0;
    int follows = 0, over = 0;
    if (ft_file_read(path, YAML_MOST_BYTES, &file, NULL) == FT_OK && yaml_parser_initialize(&parser)) {
        yaml_parser_set_input_string(&parser, (const unsigned char *)file.data, file.size);
        while (!line && !over) {
            yaml_event_t e;
            if (!yaml_parser_parse(&parser, &e))
                break;
            over = e.type == YAML_STREAM_END_EVENT;
            const char *value = e.type == YAML_SCALAR_EVENT ? (const char *)e.data.scalar.value : NULL;
            if (value && follows && !strcmp(value, text) && --nth == 0)
                line = e.start_mark.line + 1;
            if (value)
                follows = !strcmp(value, before);
            yaml_event_delete(&e);
        }
        yaml_parser_delete(&parser);
    }
    ft_buffer_release(&file);
    return line ? line : 1;
}

void yaml_federation_free(yaml_federation *f)
{
    yaml_free(&kind, f);
}

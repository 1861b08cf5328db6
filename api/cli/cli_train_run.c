/* flextrace train public, train expert: the training loop on the command line. */
#include "api/cli/cli_train_internal.h"

#include "base/ft_buffer.h"
#include "base/ft_file.h"
#include "model/train/ft_experts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define COMMON_HELP                                                                                                    \
    "  --corpus C             JSONL, text, HTML, folders, archives; may be given several times\n"                      \
    "  -o OUT                 the run's folder: OUT/checkpoint, OUT/metrics.jsonl, at the end OUT/model\n"             \
    "  --tokenizer TOK        default: the tokenizer in the model's folder\n"                                          \
    "  --steps N              (default 1000)\n"                                                                        \
    "  --batch B              sequences a step (16); --micro M of them at a time (4)\n"                                \
    "  --length T             tokens a sequence (256)\n"                                                               \
    "  --rate R               the highest learning rate (1e-3); --warmup N steps (20)\n"                               \
    "  --schedule S           cosine (default), wsd or constant; --decay N steps of wsd; --least X: the\n"             \
    "                         last rate as a share of the highest (0.1)\n"                                             \
    "  --weight-decay W       (0)    --clip C  global norm (1)    --z-loss W  (1e-3; 0 without experts)\n"             \
    "  --router-rate X        of the router's rows and biases, as a share of the learning rate (1)\n"                  \
    "  --seed S               order of the data, and of fresh weights (1)\n"                                           \
    "  --checkpoint-every N   steps (100)\n"                                                                           \
    "  --recompute            make activations again on the way back: less memory, a third more work\n"                \
    "  --memory SIZE          at most that much memory (2G): lowers M, then recomputes\n"                              \
    "  --precision P          of products: float32 (default) or bfloat16; weights and sums stay float32\n"             \
    "  --bfloat16             OUT/model as bfloat16 (default float32)\n"                                               \
    "  --threads N            0: one for each processor (default); figures do not depend on it\n"                      \
    "  --json                 a summary as JSON\n"                                                                     \
    "  --dry-run              stop once the options are understood\n"                                                  \
    "A run that was stopped or killed goes on when the same command is given again, bit for bit.\n\n"

static const char public_help[] =
    "Usage: flextrace train public MODEL --corpus C -o OUT [OPTIONS]\n\n"
    "Trains all of a dense OLMo 2 or a FlexOlmo model. MODEL holds config.json, the tokenizer and, to\n"
    "go on from a checkpoint, weights; without them they are drawn from --seed.\n\n"
    "  --constant-channel     of drawn weights: one dimension of the state holds a constant, so that experts'\n"
    "                         router biases fold into their rows exactly; training holds it from then on\n" COMMON_HELP
    "Example:\n"
    "  flextrace train public start --corpus public.jsonl.gz -o run --steps 4000 --rate 3e-3\n";

static const char router_help[] =
    "Usage: flextrace train router MERGED --corpus C -o OUT [OPTIONS]\n\n"
    "Tunes the router of a merged model on proxy data of all its domains; experts and all that is\n"
    "shared stay as they are. OUT/model has owners.json with the new rows.\n\n"
    "  --domain E             the corpora that follow are of expert E's domain (0: public)\n"
    "  --domain-loss W        adds W times -log p(E), mean over layers and tokens, to the loss (0)\n" COMMON_HELP
    "Examples:\n"
    "  flextrace train router merged --corpus proxy.jsonl -o tuned --steps 200 --rate 1e-3\n"
    "  flextrace train router merged --domain 0 --corpus public.jsonl --domain 1 --corpus news.jsonl \\\n"
    "      --domain-loss 0.15 -o tuned\n";

static const char joint_help[] =
    "Usage: flextrace train joint MODEL --corpus C -o OUT [OPTIONS]\n\n"
    "Trains everything on all corpora at once: the upper bound that closed data do not allow.\n\n"
    "  --experts N            start with N copies of MODEL's one FFN and a drawn router\n" COMMON_HELP "Example:\n"
    "  flextrace train joint public/model --experts 6 --corpus public.jsonl --corpus news.jsonl -o joint\n";

static const char expert_help[] =
    "Usage: flextrace train expert --public P --corpus C --owner NAME -o OUT [OPTIONS]\n\n"
    "Trains an owner's expert beside the frozen public model: its copy of the FFN and its router row.\n"
    "OUT/model is the pair, OUT/expert what the owner hands over: its tensors and manifest.json.\n\n"
    "  --public P             the public model: dense, or of one expert\n"
    "  --owner NAME           goes into the manifest\n"
    "  --public-corpus C      public text mixed in, so that the router row learns what is not the owner's\n"
    "  --public-share X       of the sequences (0.125 where there is public text)\n"
    "  --router F             the public router's row (P/router.safetensors; without it, from public text)\n"
    "  --router-init I        how the owner's row starts: discriminant (default where there is public text),\n"
    "                         whitened, mean (default without), public (default of private runs)\n"
    "  --keep-bias            keep the router's bias as mlp.gate.expert_bias, which other programs do not\n"
    "                         know; else it is folded into the router's row, and the difference is shown\n"
    "  --held-out C           text to measure that difference on (default: the training text)\n" COMMON_HELP
    "Differential privacy (DP-SGD):\n"
    "  --dp-clip C            clip each example's gradient to norm C; turns it on\n"
    "  --noise-multiplier S   standard deviation of the noise, divided by C\n"
    "  --epsilon E --delta D  the budget: the run stops before it exceeds it\n"
    "  --accountant rdp|pld   (rdp)\n"
    "  --example E            what one example is: window (default; at most T tokens of one document) or\n"
    "                         document\n"
    "  --examples N           a number of examples to be published: the sampling rate is batch / N\n"
    "  --ledger F             what was spent of this corpus (.NAME.privacy-ledger beside each corpus)\n\n"
    "Examples:\n"
    "  flextrace train expert --public public/model --corpus news.jsonl --owner news -o news\n"
    "  flextrace train expert --public public/model --corpus ward.jsonl --owner ward -o ward \\\n"
    "      --dp-clip 0.5 --noise-multiplier 1 --epsilon 8 --delta 1e-6\n";

static const cli_option options[] = {{"corpus", 0, 1},
                                     {"output", 'o', 1},
                                     {"tokenizer", 't', 1},
                                     {"steps", 0, 1},
                                     {"batch", 0, 1},
                                     {"micro", 0, 1},
                                     {"length", 0, 1},
                                     {"rate", 0, 1},
                                     {"warmup", 0, 1},
                                     {"schedule", 0, 1},
                                     {"decay", 0, 1},
                                     {"least", 0, 1},
                                     {"weight-decay", 0, 1},
                                     {"clip", 0, 1},
                                     {"z-loss", 0, 1},
                                     {"router-rate", 0, 1},
                                     {"seed", 0, 1},
                                     {"checkpoint-every", 0, 1},
                                     {"recompute", 0, 0},
                                     {"memory", 0, 1},
                                     {"precision", 0, 1},
                                     {"bfloat16", 0, 0},
                                     {"threads", 0, 1},
                                     {"json", 0, 0},
                                     {"public", 0, 1},
                                     {"owner", 0, 1},
                                     {"public-corpus", 0, 1},
                                     {"public-share", 0, 1},
                                     {"router-init", 0, 1},
                                     {"experts", 0, 1},
                                     {"constant-channel", 0, 0},
                                     {"domain", 0, 1},
                                     {"domain-loss", 0, 1},
                                     {"dp-clip", 0, 1},
                                     {"noise-multiplier", 0, 1},
                                     {"epsilon", 0, 1},
                                     {"delta", 0, 1},
                                     {"accountant", 0, 1},
                                     {"router", 0, 1},
                                     {"keep-bias", 0, 0},
                                     {"held-out", 0, 1},
                                     {"example", 0, 1},
                                     {"examples", 0, 1},
                                     {"ledger", 0, 1},
                                     {"dry-run", 0, 0},
                                     {"help", 'h', 0},
                                     {NULL, 0, 0}};

/* 1: understood, 0: a usage error was printed, -1: no number. */
static int take_number(cli_train_request *r, const char *name, const char *value)
{
    ft_train_options *o = &r->run;
    const struct {
        const char *name;
        double low, high, *out;
    } reals[] = {{"rate", 0, 1e30, &o->adamw.rate},
                 {"weight-decay", 0, 1e6, &o->adamw.decay},
                 {"clip", 0, 1e30, &o->clip},
                 {"least", 0, 1, &o->least},
                 {"z-loss", 0, 1e6, &r->trainer.z_loss},
                 {"router-rate", 1e-9, 1, &r->trainer.router_rate},
                 {"domain-loss", 0, 1e6, &r->trainer.domain_loss},
                 {"public-share", 0, 1, &o->public_share},
                 {"dp-clip", 1e-30, 1e30, &o->dp_clip},
                 {"noise-multiplier", 0, 1e12, &o->noise_multiplier},
                 {"epsilon", 1e-12, 1e12, &o->epsilon},
                 {"delta", 1e-300, 1 - 1e-9, &o->delta}};
    long long threads = 0, batch = (long long)o->batch, micro = (long long)o->micro, length = (long long)o->length,
              steps = (long long)o->steps, warmup = (long long)o->warmup, decay = (long long)o->decay,
              seed = (long long)o->seed, every = (long long)o->checkpoint_every, examples = (long long)o->examples;
    const struct {
        const char *name;
        long long low, high, *out;
    } whole[] = {{"steps", 1, 1LL << 40, &steps},        {"batch", 1, 1 << 24, &batch},
                 {"micro", 1, 1 << 24, &micro},          {"length", 2, 1 << 20, &length},
                 {"warmup", 0, 1LL << 40, &warmup},      {"decay", 0, 1LL << 40, &decay},
                 {"seed", 0, 1LL << 62, &seed},          {"checkpoint-every", 0, 1LL << 40, &every},
                 {"examples", 1, UINT32_MAX, &examples}, {"threads", 0, 1024, &threads}};
    for (size_t i = 0; i < sizeof(reals) / sizeof(*reals); i++)
        if (!strcmp(name, reals[i].name)) {
            r->z_given |= !strcmp(name, "z-loss");
            return cli_number(r->verb, name, value, reals[i].low, reals[i].high, reals[i].out);
        }
    for (size_t i = 0; i < sizeof(whole) / sizeof(*whole); i++)
        if (!strcmp(name, whole[i].name)) {
            if (!cli_integer(r->verb, name, value, whole[i].low, whole[i].high, whole[i].out))
                return 0;
            r->trainer.threads = whole[i].out == &threads ? (unsigned)threads : r->trainer.threads;
            o->steps = (uint64_t)steps;
            o->batch = (size_t)batch;
            o->micro = (size_t)micro;
            o->length = (size_t)length;
            o->warmup = (uint64_t)warmup;
            o->decay = (uint64_t)decay;
            o->seed = (uint64_t)seed;
            o->checkpoint_every = (uint64_t)every;
            o->examples = (uint64_t)examples;
            return 1;
        }
    return -1;
}

static int take_schedule(cli_train_request *r, const char *value)
{
    static const char *const names[] = {"constant", "cosine", "wsd"};
    for (int i = 0; i < 3; i++)
        if (!strcmp(value, names[i])) {
            r->run.schedule = (ft_schedule)i;
            return CLI_OK;
        }
    return cli_usage(r->verb, "--schedule is cosine, wsd or constant, not '%.40s'", value);
}

static int take_example(cli_train_request *r, const char *value)
{
    r->example_given = 1;
    r->run.example_document = !strcmp(value, "document");
    if (!r->run.example_document && strcmp(value, "window") != 0)
        return cli_usage(r->verb, "--example is window or document, not '%.40s'", value);
    return CLI_OK;
}

/* Options of `train expert` alone that are words; -1: none of them. */
static int take_expert(cli_train_request *r, const char *name, const char *value)
{
    if (!strcmp(name, "owner") && ft_owner_name_fault(value))
        return cli_usage(r->verb, "--owner: the name %s", ft_owner_name_fault(value));
    if (!strcmp(name, "owner"))
        r->owner = value;
    else if (!strcmp(name, "public-corpus"))
        r->public_corpus[r->public_corpora++] = value;
    else if (!strcmp(name, "held-out"))
        r->held_out[r->held_outs++] = value;
    else if (!strcmp(name, "router"))
        r->router = value;
    else if (!strcmp(name, "ledger"))
        r->ledger = value;
    else if (!strcmp(name, "keep-bias"))
        r->keep_bias = 1;
    else if (!strcmp(name, "example"))
        return take_example(r, value);
    else if (!strcmp(name, "router-init")) {
        r->init_given = cli_train_init_named(value, &r->init);
        if (!r->init_given)
            return cli_usage(r->verb, "--router-init is mean, discriminant, whitened or public, not '%.40s'", value);
    } else if (!strcmp(name, "accountant")) {
        if (strcmp(value, "rdp") != 0 && strcmp(value, "pld") != 0)
            return cli_usage(r->verb, "--accountant is rdp or pld, not '%.40s'", value);
        r->run.accountant = value[0] == 'p' ? FT_ACCOUNTANT_PLD : FT_ACCOUNTANT_RDP;
    } else
        return -1;
    return CLI_OK;
}

static int belongs_to_expert(const char *name)
{
    static const char *const names[] = {"public",  "owner",      "public-corpus", "public-share",     "router-init",
                                        "router",  "keep-bias",  "held-out",      "noise-multiplier", "epsilon",
                                        "delta",   "accountant", "example",       "examples",         "ledger",
                                        "dp-clip", NULL};
    for (size_t i = 0; names[i]; i++)
        if (!strcmp(names[i], name))
            return 1;
    return 0;
}

static int take(void *context, const char *name, const char *given)
{
    cli_train_request *r = context;
    const char *value = given ? given : ""; /* of a flag */
    if (name && !strcmp(name, "experts")) {
        if (!r->joint)
            return cli_usage(r->verb, "--experts belongs to 'train joint'");
        return cli_integer(r->verb, name, value, 2, FT_MAX_EXPERTS, &r->experts) ? CLI_OK : CLI_USAGE;
    }
    if (name && !strcmp(name, "constant-channel")) {
        if (r->mode != FT_TRAIN_ALL || r->joint)
            return cli_usage(r->verb, "--constant-channel belongs to 'train public'");
        r->constant_channel = 1;
        return CLI_OK;
    }
    if (name && !strncmp(name, "domain", strlen("domain")) && r->mode != FT_TRAIN_ROUTER)
        return cli_usage(r->verb, "--%s belongs to 'train router'", name);
    if (name && !strcmp(name, "domain"))
        return cli_integer(r->verb, name, value, 0, FT_MAX_EXPERTS - 1, &r->domain) ? CLI_OK : CLI_USAGE;
    if (name && belongs_to_expert(name) && !r->expert)
        return cli_usage(r->verb, "--%s belongs to 'train expert'", name);
    if (!name && (r->expert || r->model))
        return cli_usage(r->verb, "'%.60s' is one word too many", value);
    const int number = name ? take_number(r, name, value) : -1;
    if (number >= 0)
        return number ? CLI_OK : CLI_USAGE;
    const int expert = name ? take_expert(r, name, value) : -1;
    if (expert >= 0)
        return expert;
    if (!name || !strcmp(name, "public"))
        r->model = value;
    else if (!strcmp(name, "corpus")) {
        r->corpus_domain[r->corpora] = (int32_t)r->domain;
        r->corpus[r->corpora++] = value;
    } else if (!strcmp(name, "output"))
        r->out = value;
    else if (!strcmp(name, "tokenizer"))
        r->tokenizer = value;
    else if (!strcmp(name, "schedule"))
        return take_schedule(r, value);
    else if (!strcmp(name, "memory"))
        return cli_bytes(r->verb, name, value, &r->memory) ? CLI_OK : CLI_USAGE;
    else if (!strcmp(name, "precision"))
        return cli_train_precision(r->verb, value, &r->trainer.bfloat16) ? CLI_OK : CLI_USAGE;
    else if (!strcmp(name, "recompute"))
        r->trainer.recompute = 1;
    else if (!strcmp(name, "bfloat16"))
        r->bfloat16 = 1;
    else if (!strcmp(name, "dry-run"))
        r->dry_run = 1;
    else
        r->json = 1;
    return CLI_OK;
}

/* --- Work ------------------------------------------------------------------------------------ */

typedef struct progress {
    ft_progress show;
    uint64_t tokens;
    double loss;
} progress;

static int on_step(void *context, const ft_train_metrics *m)
{
    progress *p = context;
    p->loss = m->step == 1 || p->loss == 0 ? m->loss : 0.95 * p->loss + 0.05 * m->loss;
    p->tokens += m->tokens;
    if (m->step % 100 == 0 || m->step == m->steps) {
        char line[160];
        snprintf(line, sizeof(line), "step %llu of %llu: loss %.4f, %.0f tokens/s, %.0f s left",
                 (unsigned long long)m->step, (unsigned long long)m->steps, p->loss,
                 m->seconds > 0 ? (double)m->tokens / m->seconds : 0, (double)(m->steps - m->step) * m->seconds);
        cli_progress_message(line);
    }
    return ft_progress_report(&p->show, "train", m->step, m->steps, "steps");
}

static ft_code open_trainer(cli_train_request *r, ft_trainer **t, ft_status *st)
{
    ft_parameters p, pair;
    char *weights = ft_path_join(r->model, "model.safetensors"),
         *index = ft_path_join(r->model, "model.safetensors.index.json");
    const int fresh =
        r->mode == FT_TRAIN_ALL && !r->joint && weights && index && !ft_path_exists(weights) && !ft_path_exists(index);
    free(weights);
    free(index);
    ft_code rc = fresh ? ft_parameters_init(&p, r->model, r->run.seed, st) : ft_parameters_open(&p, r->model, st);
    if (rc)
        return rc;
    if (fresh && r->constant_channel) {
        ft_parameters_make_constant(&p);
        r->run.start = "constant channel";
    } else if (r->constant_channel && ft_parameters_constant(&p) == 0) {
        ft_parameters_close(&p);
        return ft_fail(st, FT_ERR_ARG, "%s: has weights without a constant channel; leave out --constant-channel",
                       r->model);
    }
    if (r->expert) {
        if (p.config.experts > 1)
            rc = ft_fail(st, FT_ERR_FORMAT, "%s: has %zu experts; an owner starts from a public model of one", r->model,
                         p.config.experts);
        else
            rc = ft_parameters_add_expert(&pair, &p, 1, 0, st);
        r->public_has_router = p.config.experts > 0;
        ft_parameters_close(&p);
        p = rc ? (ft_parameters){0} : pair;
        if (!rc)
            rc = cli_train_start_router(r, &p, st);
    }
    while (!rc && p.config.experts < (size_t)r->experts) {
        rc = ft_parameters_add_expert(&pair, &p, 0, 0, st);
        ft_parameters_close(&p);
        p = rc ? (ft_parameters){0} : pair;
        if (!rc)
            ft_parameters_draw_router(&p, r->run.seed);
    }
    for (size_t i = 0; i < r->corpora && !rc; i++)
        if (r->corpus_domain[i] >= (int32_t)p.config.experts && r->mode == FT_TRAIN_ROUTER)
            rc = ft_fail(st, FT_ERR_ARG, "%s: has no expert %d, which --domain names for %s", r->model,
                         (int)r->corpus_domain[i], r->corpus[i]);
    if (!rc && (r->joint || r->mode == FT_TRAIN_ROUTER) && p.config.experts < 2)
        rc = ft_fail(st, FT_ERR_FORMAT, "%s: has no second expert%s", r->model, r->joint ? "; use --experts" : "");
    if (rc) {
        ft_parameters_close(&p);
        return rc;
    }
    r->trainer.mode = r->mode;
    if (!r->z_given && p.config.experts)
        r->trainer.z_loss = 1e-3;
    r->run.z_loss = r->trainer.z_loss;
    r->run.router_rate = r->trainer.router_rate;
    r->run.domain_loss = r->trainer.domain_loss;
    return ft_trainer_new(t, &p, &r->trainer, st);
}

/* The model goes on with the tokenizer in its folder: text that another one cut would teach it other tokens. */
static ft_code check_tokenizer(const cli_train_request *r, const ft_tokenizer *given, ft_status *st)
{
    char *path = ft_path_join(r->model, "tokenizer.json");
    ft_tokenizer *own = NULL;
    ft_code rc = path ? FT_OK : ft_fail(st, FT_ERR_MEM, "%s: out of memory", r->model);
    if (!rc && ft_path_exists(path))
        rc = ft_tokenizer_open(&own, r->model, st);
    if (!rc && own) {
        const ft_digest a = ft_tokenizer_digest(own), b = ft_tokenizer_digest(given);
        if (memcmp(&a, &b, sizeof(a)) != 0)
            rc = ft_fail(st, FT_ERR_FORMAT, "%s: is not the tokenizer that %s has; leave --tokenizer out",
                         ft_tokenizer_path(given), r->model);
    }
    ft_tokenizer_close(own);
    free(path);
    return rc;
}

static ft_code open_data(cli_train_request *r, size_t vocab, const ft_progress *show, ft_status *st)
{
    ft_tokenizer *tokenizer = NULL;
    ft_code rc = ft_tokenizer_open(&tokenizer, r->tokenizer ? r->tokenizer : r->model, st);
    if (!rc && r->tokenizer)
        rc = check_tokenizer(r, tokenizer, st);
    if (!rc)
        rc = ft_train_data_open_domains(&r->run.data, r->corpus, r->corpus_domain, r->corpora, tokenizer, vocab, show,
                                        st);
    if (!rc && r->public_corpora)
        rc = ft_train_data_open(&r->run.public_data, r->public_corpus, r->public_corpora, tokenizer, vocab, show, st);
    if (!rc && r->held_outs)
        rc = ft_train_data_open(&r->held, r->held_out, r->held_outs, tokenizer, vocab, show, st);
    ft_tokenizer_close(tokenizer);
    return rc;
}

/* OUT/model is written at the end: over the model that the same command starts from when it is given again, it would
 * be another command. */
static ft_code check_out(const cli_train_request *r, ft_status *st)
{
    char *model = ft_path_join(r->out, "model");
    ft_code rc = model ? FT_OK : ft_fail(st, FT_ERR_MEM, "%s: out of memory", r->out);
    if (!rc && ft_path_same(model, r->model))
        rc = ft_fail(st, FT_ERR_ARG,
                     "%s: would be written over, and is what training starts from; -o names another "
                     "folder",
                     model);
    free(model);
    return rc;
}

/* Texts first: the router's start reads them. */
static ft_code open_all(cli_train_request *r, ft_trainer **t, const ft_progress *show, ft_status *st)
{
    ft_model_config config;
    ft_code rc = check_out(r, st);
    if (!rc)
        rc = ft_model_config_read(&config, r->model, st);
    if (!rc)
        rc = open_data(r, config.vocab, show, st);
    if (!rc && r->run.dp_clip > 0)
        rc = cli_train_find_ledgers(r, st);
    return rc ? rc : open_trainer(r, t, st);
}

static ft_code copy_manifest(const char *from, const char *to, ft_status *st)
{
    ft_buffer bytes = {0};
    char *a = ft_path_join(from, "manifest.json"), *b = ft_path_join(to, "manifest.json");
    ft_code rc = a && b ? ft_file_read(a, 0, &bytes, st) : ft_fail(st, FT_ERR_MEM, "%s: out of memory", to);
    if (!rc)
        rc = ft_file_write(b, bytes.data, bytes.size, st);
    ft_buffer_release(&bytes);
    free(a);
    free(b);
    return rc;
}

/* The public router's row, from the model as it was written. */
static ft_code make_direction(const cli_train_request *r, const char *model, ft_status *st)
{
    uint64_t tokens;
    char *path = ft_path_join(model, "router.safetensors");
    const ft_code rc =
        path ? cli_train_make_direction(model, r->run.data, r->run.length, r->trainer.threads, path, &tokens, st)
             : ft_fail(st, FT_ERR_MEM, "%s: out of memory", model);
    free(path);
    return rc;
}

static ft_code export(const cli_train_request *r, ft_trainer *t, json_t *about, ft_status *st)
{
    char *model = ft_path_join(r->out, "model"), *expert = ft_path_join(r->out, "expert");
    ft_code rc = model && expert && about ? FT_OK : ft_fail(st, FT_ERR_MEM, "%s: out of memory", r->out);
    if (!rc)
        rc = ft_model_export(ft_trainer_parameters(t), r->model, model, r->bfloat16, st);
    if (!rc && r->expert)
        rc = ft_expert_export(ft_trainer_parameters(t), expert, about, st);
    if (!rc && r->mode == FT_TRAIN_ALL && !r->joint && ft_trainer_parameters(t)->config.experts < 2)
        rc = make_direction(r, model, st);
    if (!rc && r->mode == FT_TRAIN_ROUTER)
        rc = ft_experts_tuned(r->model, model, st);
    /* The pair bears the manifest too, where it holds the very tensors that the manifest names. */
    if (!rc && r->expert && !r->bfloat16)
        rc = copy_manifest(expert, model, st);
    free(model);
    free(expert);
    return rc;
}

static int print(const cli_train_request *r, const ft_train_report *report, json_t *about)
{
    if (r->json)
        return cli_print_json(json_incref(about));
    printf("%s: %llu steps, %llu tokens, loss %.4f", r->out, (unsigned long long)report->steps_done,
           (unsigned long long)report->tokens, report->last.loss);
    if (r->run.dp_clip > 0)
        printf("; epsilon %.4g at delta %g%s%s", report->spent.epsilon, r->run.delta,
               report->earlier_runs ? " with what the ledger says was spent before" : "",
               report->budget_reached ? ", the budget allows no further step" : "");
    putchar('\n');
    if (r->fold.tokens)
        printf("router: bias folded into its row: %.4f bits a byte, %.4f with the bias; %.1f %% of first choices the "
               "same (%s)\n",
               r->fold.folded, r->fold.exact, 100 * r->fold.agreement, r->held ? "held-out text" : "training text");
    return CLI_OK;
}

static int work(cli_train_request *r)
{
    ft_status st = {0};
    ft_trainer *t = NULL;
    ft_train_report report;
    progress p = {.show = cli_progress()};
    json_t *about = NULL;
    ft_code rc = open_all(r, &t, &p.show, &st);
    if (!rc)
        rc = cli_train_fit(r, t, &st);
    if (!rc) {
        r->run.bfloat16 = r->trainer.bfloat16;
        r->run.folder = r->out;
        r->run.on_step = on_step;
        r->run.context = &p;
        rc = ft_train_run(t, &r->run, &report, &st);
    }
    cli_progress_end();
    if (!rc)
        ft_trainer_rest(t);
    if (!rc && r->expert)
        rc = cli_train_fold(r, t, &st);
    if (!rc) {
        about = cli_train_record(r, &report);
        rc = export(r, t, about, &st);
    }
    const int code = rc ? cli_fail(&st) : print(r, &report, about);
    json_decref(about);
    ft_trainer_close(t);
    ft_train_data_close(r->run.data);
    ft_train_data_close(r->run.public_data);
    ft_train_data_close(r->held);
    ft_router_public_close(&r->public_router);
    cli_train_forget_ledgers(r);
    return code;
}

static int check(cli_train_request *r)
{
    const ft_train_options *o = &r->run;
    if (!r->model || !r->corpora || !r->out)
        return cli_usage(r->verb, r->expert ? "needs --public, --corpus and -o" : "needs a MODEL, --corpus and -o");
    if (r->expert && !r->owner)
        return cli_usage(r->verb, "needs --owner: whose expert it will be");
    if (r->trainer.domain_loss > 0 && r->domain < 0)
        return cli_usage(r->verb, "--domain-loss needs --domain: whose each corpus is");
    if (o->dp_clip > 0 && (o->epsilon <= 0 || o->delta <= 0 || o->noise_multiplier <= 0))
        return cli_usage(r->verb, "--dp-clip needs --noise-multiplier, --epsilon and --delta");
    if (o->dp_clip <= 0 && (o->epsilon > 0 || o->delta > 0 || o->noise_multiplier > 0))
        return cli_usage(r->verb, "--noise-multiplier, --epsilon and --delta need --dp-clip");
    if (o->dp_clip <= 0 && (r->example_given || r->ledger || o->examples))
        return cli_usage(r->verb, "--example, --examples and --ledger need --dp-clip");
    if (o->dp_clip > 0 && r->init_given && r->init != FT_ROUTER_PUBLIC)
        return cli_usage(r->verb,
                         "--router-init %s reads the owner's states, which a private run must not hand over; "
                         "leave it out",
                         cli_train_init_name(r->init));
    if (r->init_given && (r->init == FT_ROUTER_DISCRIMINANT || r->init == FT_ROUTER_WHITENED) && !r->public_corpora)
        return cli_usage(r->verb, "--router-init %s needs --public-corpus", cli_train_init_name(r->init));
    if (r->public_corpora && o->public_share <= 0)
        r->run.public_share = 0.125;
    if (o->micro > o->batch)
        r->run.micro = o->batch;
    return CLI_OK;
}

static int run(ft_train_mode mode, const char *verb, const char *help, int argc, char **argv)
{
    cli_train_request r = {.mode = mode,
                           .expert = mode == FT_TRAIN_EXPERT,
                           .joint = help == joint_help,
                           .verb = verb,
                           .corpus = ft_alloc_array((size_t)argc, sizeof(*r.corpus)),
                           .domain = -1,
                           .corpus_domain = ft_alloc_array((size_t)argc, sizeof(*r.corpus_domain)),
                           .public_corpus = ft_alloc_array((size_t)argc, sizeof(*r.public_corpus)),
                           .held_out = ft_alloc_array((size_t)argc, sizeof(*r.held_out)),
                           .run = {.steps = 1000,
                                   .batch = 16,
                                   .micro = 4,
                                   .length = 256,
                                   .adamw = {.rate = 1e-3, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8},
                                   .schedule = FT_SCHEDULE_COSINE,
                                   .warmup = 20,
                                   .least = 0.1,
                                   .clip = 1,
                                   .seed = 1,
                                   .checkpoint_every = 100}};
    cli_args a = {.subcommand = r.verb, .options = options, .argc = argc, .argv = argv};
    int helped = 0, code = CLI_SYSTEM;
    if (r.corpus && r.corpus_domain && r.public_corpus && r.held_out)
        code = cli_take_all(&a, help, take, &r, &helped);
    if (code == CLI_OK && !helped)
        code = check(&r);
    if (code == CLI_OK && !helped && !r.dry_run)
        code = work(&r);
    free(r.corpus);
    free(r.corpus_domain);
    free(r.public_corpus);
    free(r.held_out);
    return code;
}

int cli_train_public(int argc, char **argv)
{
    return run(FT_TRAIN_ALL, "train public", public_help, argc, argv);
}

int cli_train_expert(int argc, char **argv)
{
    return run(FT_TRAIN_EXPERT, "train expert", expert_help, argc, argv);
}

int cli_train_router(int argc, char **argv)
{
    return run(FT_TRAIN_ROUTER, "train router", router_help, argc, argv);
}

int cli_train_joint(int argc, char **argv)
{
    return run(FT_TRAIN_ALL, "train joint", joint_help, argc, argv);
}

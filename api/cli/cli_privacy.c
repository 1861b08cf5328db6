/* flextrace privacy: what differentially private training costs, before it runs. */
#include "api/cli/cli.h"

#include "model/train/ft_privacy.h"

#include <math.h>
#include <string.h>

cli_command cli_privacy;

static const char help[] =
    "Usage: flextrace privacy epsilon --sampling-rate Q --noise-multiplier S --steps T --delta D [OPTIONS]\n"
    "       flextrace privacy sigma   --sampling-rate Q --epsilon E --steps T --delta D [OPTIONS]\n\n"
    "epsilon: what T steps of DP-SGD cost. sigma: the least noise multiplier that keeps to E.\n"
    "In a step each example takes part with probability Q, its gradient is clipped to norm C, and\n"
    "Gaussian noise of standard deviation S times C is added to the sum. Epsilon is in nats, for\n"
    "one example more or less.\n\n"
    "  --sampling-rate Q      0 to 1: the expected batch divided by the number of examples\n"
    "  --noise-multiplier S   the noise's standard deviation divided by C\n"
    "  --steps T              optimizer steps\n"
    "  --delta D              above 0, below 1; far below 1 / the number of examples\n"
    "  --epsilon E            the budget that sigma keeps to\n"
    "  --accountant rdp|pld   Renyi divergence (default), or the tighter privacy loss distribution\n"
    "  --json                 {\"epsilon\",\"order\"}; for sigma also \"sigma\". What is infinite is null,\n"
    "                         with a \"reason\"; order is null with pld\n\n"
    "Examples:\n"
    "  flextrace privacy epsilon --sampling-rate 0.01 --noise-multiplier 1.1 --steps 1000 --delta 1e-5\n"
    "  flextrace privacy sigma --sampling-rate 0.01 --epsilon 4 --steps 1000 --delta 1e-5 --accountant pld --json\n";

typedef struct request {
    int wants_sigma, json;
    unsigned given; /* bits of the options below */
    double rate, noise, delta, epsilon;
    long long steps;
    ft_accountant accountant;
} request;
enum { RATE = 1, NOISE = 2, STEPS = 4, DELTA = 8, EPSILON = 16 };

static const cli_option options[] = {{"sampling-rate", 0, 1}, {"noise-multiplier", 0, 1}, {"steps", 0, 1},
                                     {"delta", 0, 1},         {"epsilon", 0, 1},          {"accountant", 0, 1},
                                     {"json", 0, 0},          {"help", 'h', 0},           {NULL, 0, 0}};

/* An option's value; 0 after a message. */
static int take(request *r, const char *name, const char *value)
{
    if (!strcmp(name, "json"))
        return r->json = 1;
    if (!strcmp(name, "sampling-rate")) {
        r->given |= RATE;
        return cli_number("privacy", name, value, 0, 1, &r->rate);
    }
    if (!strcmp(name, "noise-multiplier")) {
        r->given |= NOISE;
        return cli_number("privacy", name, value, 0, 1e12, &r->noise);
    }
    if (!strcmp(name, "steps")) {
        r->given |= STEPS;
        return cli_integer("privacy", name, value, 0, 1000000000000, &r->steps);
    }
    if (!strcmp(name, "delta")) {
        r->given |= DELTA;
        return cli_number("privacy", name, value, 1e-300, 1 - 1e-9, &r->delta);
    }
    if (!strcmp(name, "epsilon")) {
        r->given |= EPSILON;
        return cli_number("privacy", name, value, 1e-12, 1e12, &r->epsilon);
    }
    if (strcmp(value, "rdp") != 0 && strcmp(value, "pld") != 0) {
        cli_usage("privacy", "--accountant is rdp or pld, not '%.40s'", value);
        return 0;
    }
    r->accountant = value[0] == 'p' ? FT_ACCOUNTANT_PLD : FT_ACCOUNTANT_RDP;
    return 1;
}

static int print(const request *r, const ft_privacy_spent *s, double sigma)
{
    const int infinite = !isfinite(s->epsilon), pld = r->accountant == FT_ACCOUNTANT_PLD && !(s->order > 0);
    if (r->json) {
        json_t *o = json_pack("{s:o, s:o}", "epsilon", infinite ? json_null() : json_real(s->epsilon), "order",
                              s->order > 0 ? json_real(s->order) : json_null());
        if (o && r->wants_sigma)
            json_object_set_new(o, "sigma", json_real(sigma));
        if (o && infinite)
            json_object_set_new(o, "reason", json_string(s->reason));
        if (o)
            json_object_set_new(o, "accountant", json_string(pld ? "pld" : "rdp"));
        return cli_print_json(o);
    }
    if (r->wants_sigma)
        printf("noise multiplier %.7g: ", sigma);
    if (infinite)
        printf("epsilon is infinite: %s\n", s->reason);
    else
        printf("epsilon %.6g at delta %g (%s%s)\n", s->epsilon, r->delta,
               pld ? "privacy loss distribution" : "Renyi divergence", pld ? ", pessimistic" : "");
    return CLI_OK;
}

static int answer(const request *r)
{
    ft_status st = {0};
    ft_privacy_spent s = {0};
    double sigma = r->noise;
    const ft_privacy_mechanism m = {
        .sampling_rate = r->rate, .noise_multiplier = r->noise, .steps = (uint64_t)r->steps};
    const ft_code rc = r->wants_sigma
                           ? ft_privacy_sigma(&sigma, &s, r->rate, m.steps, r->epsilon, r->delta, r->accountant, &st)
                           : ft_privacy_epsilon(&s, &m, r->delta, r->accountant, &st);
    return rc ? cli_fail(&st) : print(r, &s, sigma);
}

int cli_privacy(int argc, char **argv)
{
    cli_args a = {.subcommand = "privacy", .options = options, .argc = argc, .argv = argv};
    request r = {0};
    const char *name, *value, *verb = NULL;
    int more;
    while ((more = cli_next(&a, &name, &value)) > 0) {
        if (name && !strcmp(name, "help")) {
            fputs(help, stdout);
            return CLI_OK;
        }
        if (!name && verb)
            return cli_usage("privacy", "one of 'epsilon' and 'sigma', not also '%.60s'", value);
        if (!name)
            verb = value;
        else if (!take(&r, name, value))
            return CLI_USAGE;
    }
    if (more < 0)
        return CLI_USAGE;
    if (!verb || (strcmp(verb, "epsilon") != 0 && strcmp(verb, "sigma") != 0))
        return cli_usage("privacy", "what to compute is 'epsilon' or 'sigma'");
    r.wants_sigma = verb[0] == 's';
    const unsigned needs = RATE | STEPS | DELTA | (r.wants_sigma ? EPSILON : NOISE);
    if ((r.given & needs) != needs || r.given & ~needs)
        return cli_usage("privacy", "%s takes --sampling-rate, --steps, --delta and %s, all of them", verb,
                         r.wants_sigma ? "--epsilon" : "--noise-multiplier");
    return answer(&r);
}

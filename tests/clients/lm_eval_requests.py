"""What lm-evaluation-harness asks for in the tests, and what its log-likelihoods must be: the sum over each continuation's
tokens, by whoever computes logits."""

import math
import random
import subprocess
import tempfile

import numpy

REQUESTS = 200
TEXT = (
    "In the beginning God created the heaven and the earth. And the earth was without form, and void; and darkness was upon "
    "the face of the deep. And the Spirit of God moved upon the face of the waters. The options of a command are described "
    "in the manual page, one after another, each with its default. A café — naïve façade, “quoted”; 中文 and "
    "emoji 😀 stand here too.\n\nint main(void)\n{\n    return 0;\n}\n It was the best of times, it was the worst of times, "
    "it was the age of wisdom, it was the age of foolishness.")


def pairs(seed=5):
    """Contexts and continuations cut out of the text at random; some contexts are empty."""
    draw = random.Random(seed)
    out = []
    while len(out) < REQUESTS:
        a = draw.randrange(len(TEXT) - 60)
        b = a + draw.randrange(1, 50)
        c = b + draw.randrange(1, 12)
        if len(out) % 25 == 0:
            out.append(("", TEXT[b:c]))
        elif TEXT[a:b].strip():  # the harness gives blanks at the end of a context to the continuation
            out.append((TEXT[a:b], TEXT[b:c]))
    return out


def encoded(model, context, continuation):
    """Token ids of both, as the harness cuts them."""
    return model._encode_pair(context, continuation) if context else ([model.prefix_token_id], model.tok_encode(continuation))


def scores_of(model, requests, forward):
    """log-probability of each continuation, and whether it is greedy, from `forward`: token ids to logits of every position."""
    out = []
    for context, continuation in requests:
        before, after = encoded(model, context, continuation)
        ids = before + after
        logits = forward(ids).astype(numpy.float64)
        total, greedy = 0.0, True
        for t in range(len(before), len(ids)):
            row = logits[t - 1]
            top = row.max()
            total += row[ids[t]] - top - math.log(numpy.exp(row - top).sum())
            greedy &= bool(row[ids[t]] == top)
        out.append((total, greedy))
    return out


def likelihoods(model, requests):
    """What the harness gets of the server: (log-likelihood, whether it is greedy) of each."""
    from lm_eval.api.instance import Instance
    return model.loglikelihood(
        [Instance(request_type="loglikelihood", doc={}, arguments=pair, idx=i) for i, pair in enumerate(requests)],
        disable_tqdm=True)


def forward_of(binary, model):
    """The logits of `flextrace forward`, as scores_of wants them."""
    def forward(ids):
        with tempfile.TemporaryDirectory() as folder:
            ids_path, logits_path = folder + "/ids.npy", folder + "/logits.npy"
            numpy.save(ids_path, numpy.array(ids, dtype=numpy.int32))
            subprocess.run([binary, "forward", model, "--ids", ids_path, "--logits", logits_path], check=True,
                           stdout=subprocess.DEVNULL)
            return numpy.load(logits_path)
    return forward

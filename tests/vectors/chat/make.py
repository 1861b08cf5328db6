"""Makes chat.json: what jinja2, set up as transformers does, renders of chat templates.

    python3 -m venv venv && venv/bin/pip install jinja2 && venv/bin/python make.py

The templates are written for this test in the ways that checkpoints write them: the shapes
of ChatML, OLMo 2 (Tulu) and Olmo 3, with default system texts, tool branches that a plain
conversation does not reach, and Jinja's several ways to control blanks."""

import json
import pathlib

from jinja2.sandbox import ImmutableSandboxedEnvironment


def environment():
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])

    def raise_exception(message):
        raise ValueError(message)

    env.globals["raise_exception"] = raise_exception
    return env


ENV = environment()


def render(text, messages, bos, eos, generate):
    return ENV.from_string(text).render(messages=messages, bos_token=bos, eos_token=eos, tools=None, documents=None,
                                        add_generation_prompt=generate)


IM = "<|im_start|>"
OLMO3_SYSTEM = ("You are a helpful function-calling AI assistant. You do not currently have access to any functions. "
                "<functions></functions>")
THINK_SYSTEM = ("You are OLMo, a helpful function-calling AI assistant built by Ai2. Your date cutoff is November 2024, and "
                "your model weights are available at https://huggingface.co/allenai. You do not currently have access to "
                "any functions. <functions></functions>")


def olmo3(default, system_tail, answer):
    """As published: everything on few lines, tools where there are some, a default system text."""
    return (
        "{%- set said = messages|selectattr('role', 'equalto', 'system')|list|length > 0 -%}\n"
        "{%- if not said -%}{{- '<|im_start|>system\n" + default + "<|im_end|>\n' -}}{%- endif -%}\n"
        "{%- for turn in messages -%}\n"
        "  {%- if turn['role'] == 'system' -%}\n"
        "    {{- '<|im_start|>system\n' + turn['content'] -}}\n"
        "    {%- if tools is not none -%}{{- '<functions>' -}}{{- tools | tojson -}}{{- '</functions>' -}}\n"
        "    {%- elif turn.get('functions', none) is not none -%}{{- turn['functions'] -}}{%- endif -%}\n"
        "    {{- '" + system_tail + "<|im_end|>\n' -}}\n"
        "  {%- elif turn['role'] == 'user' -%}{{- '<|im_start|>user\n' + turn['content'] + '<|im_end|>\n' -}}\n"
        "  {%- elif turn['role'] == 'assistant' -%}\n"
        "    {{- '<|im_start|>assistant\\n' -}}\n"
        "    {%- if turn.get('content', none) is not none -%}{{- turn['content'] -}}{%- endif -%}\n"
        "    {%- if turn.get('tool_calls', none) is not none -%}\n"
        "      {%- for call in turn['tool_calls'] -%}{%- set ns = namespace(list=[]) -%}\n"
        "        {%- for key, value in call.arguments.items() -%}{%- set ns.list = ns.list + [key] -%}{%- endfor -%}\n"
        "      {%- endfor -%}\n"
        "    {%- endif -%}\n"
        "    {%- if not loop.last -%}{{- '<|im_end|>' + '\n' -}}{%- else -%}{{- eos_token -}}{%- endif -%}\n"
        "  {%- elif turn['role'] in ['environment', 'tool'] -%}\n"
        "    {{- '<|im_start|>environment\n' + turn['content'] + '<|im_end|>\n' -}}\n"
        "  {%- endif -%}\n"
        "  {%- if loop.last and add_generation_prompt -%}{{- '" + answer + "' -}}{%- endif -%}\n"
        "{%- endfor -%}\n")


TULU = (
    "{% for turn in messages %}"
    "{% if turn['role'] in ['system', 'user'] %}{{ '<|' ~ turn['role'] ~ '|>\n' ~ turn['content'] ~ '\n' }}"
    "{% elif turn['role'] == 'assistant' %}{{ '<|assistant|>\n' + turn['content'] + eos_token }}"
    "{{ '\n' if not loop.last else '' }}{% endif %}"
    "{% if add_generation_prompt and loop.last %}{{ '<|assistant|>\n' }}{% endif %}"
    "{% endfor %}")

CHATML = (
    "{% for turn in messages %}{{ '<|im_start|>' + turn['role'] + '\n' + turn['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")

# As open-instruct's "olmo", which FlexOlmo's checkpoints are fine-tuned with: one line, functions in system and user
# turns where there are some, tools under the name "environment" alone.
OLMO = (
    "{% if messages | selectattr('role', 'equalto', 'system') | list | length == 0 %}"
    "{{ '<|im_start|>system\n" + THINK_SYSTEM + "<|im_end|>\n' }}{% endif %}"
    "{% for turn in messages %}{% set role = turn['role'] %}"
    "{% if role == 'system' or role == 'user' %}{{ '<|im_start|>' + role + '\n' + turn['content'] }}"
    "{% if turn.get('functions', none) is not none %}{{ '<functions>' + turn['functions'] + '</functions>' }}"
    "{% elif role == 'system' %}{{ ' You do not currently have access to any functions. <functions></functions>' }}{% endif %}"
    "{{ '<|im_end|>\n' }}"
    "{% elif role == 'assistant' %}{{ '<|im_start|>assistant\n' }}"
    "{% if turn.get('content', none) is not none %}{{ turn['content'] }}{% endif %}"
    "{% if turn.get('function_calls', none) is not none %}"
    "{{ '<function_calls>' + turn['function_calls'] + '</function_calls>' }}{% endif %}"
    "{% if loop.last %}{{ eos_token }}{% else %}{{ '<|im_end|>' + '\n' }}{% endif %}"
    "{% elif role == 'environment' %}{{ '<|im_start|>environment\n' + turn['content'] + '<|im_end|>\n' }}{% endif %}"
    "{% if loop.last and add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}{% endfor %}")

# As released models are given it: the makers' name in the default text alone, which ends where tools would begin; calls
# of tools taken apart in branches that no plain conversation reaches.
OLMO31 = (
    "{%- set told = messages|selectattr('role', 'equalto', 'system')|list|length > 0 -%}{%- if not told -%}"
    "{{- '<|im_start|>system\nYou are Olmo, a helpful AI assistant built by Ai2. ' -}}"
    "{%- if tools is none or (tools | length) == 0 -%}"
    "{{- 'You do not currently have access to any functions. <functions></functions><|im_end|>\n' -}}"
    "{%- else -%}{{- 'These functions are there: <functions>' -}}{{- tools | tojson -}}{{- '</functions><|im_end|>\n' -}}"
    "{%- endif -%}{%- endif -%}"
    "{%- for turn in messages -%}{%- set role = turn['role'] -%}"
    "{%- if role == 'system' -%}{{- '<|im_start|>system\n' + turn['content'] -}}"
    "{%- if tools is not none -%}{{- '<functions>' -}}{{- tools | tojson -}}{{- '</functions>' -}}"
    "{%- elif turn.get('functions', none) is not none -%}{{- ' <functions>' + turn['functions'] + '</functions>' -}}"
    "{%- endif -%}{{- '<|im_end|>\n' -}}"
    "{%- elif role == 'user' -%}{{- '<|im_start|>user\n' + turn['content'] + '<|im_end|>\n' -}}"
    "{%- elif role == 'assistant' -%}{{- '<|im_start|>assistant\n' -}}"
    "{%- if turn.get('content', none) is not none -%}{{- turn['content'] -}}{%- endif -%}"
    "{%- if turn.get('tool_calls', none) is not none %}{{- '<function_calls>' -}}"
    "{%- for call in turn['tool_calls'] %}{%- if call is mapping and call.get('function', none) is not none %}"
    "{%- set given = namespace(list=[]) -%}"
    "{%- for key, value in call['function']['arguments'].items() -%}"
    "{%- set given.list = given.list + [key ~ '=' ~ (value | tojson)] -%}{%- endfor -%}"
    "{{- call['function']['name'] + '(' + (given.list | join(', ')) + ')' -}}{%- if not loop.last -%}{{ '\n' }}{%- endif -%}"
    "{% else %}{{- call -}}{%- endif %}{%- endfor %}{{- '</function_calls>' -}}{%- endif -%}"
    "{%- if not loop.last -%}{{- '<|im_end|>' + '\n' -}}{%- else -%}{{- eos_token -}}{%- endif -%}"
    "{%- elif role == 'environment' -%}{{- '<|im_start|>environment\n' + turn['content'] + '<|im_end|>\n' -}}"
    "{%- elif role == 'tool' -%}{{- '<|im_start|>environment\n' + turn['content'] + '<|im_end|>\n' -}}{%- endif -%}"
    "{%- if loop.last and add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%}{%- endfor -%}")

# With lines and indents as people write them by hand, and a default system text.
CHATML_BY_HAND = """{# ChatML #}
{% if messages[0]['role'] != 'system' %}
{{- '<|im_start|>system\\nYou are a careful librarian.<|im_end|>\\n' }}
{%- endif %}
{% for turn in messages %}
    {%- if (turn.role == "user") or (turn.role == "system") %}
        {{- "<|im_start|>" + turn.role + "\\n" + turn.content + "<|im_end|>\\n" }}
    {%- elif turn.role == "assistant" and not turn.tool_calls %}
        {{- "<|im_start|>" ~ turn.role ~ "\\n" ~ turn.content ~ "<|im_end|>\\n" }}
    {%- else %}
        {{- raise_exception("no such role: " + turn.role) }}
    {%- endif %}
{% endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""

EOT = "<|endoftext|>"
TEMPLATES = [
    ("chatml", "chatml", CHATML, EOT, EOT),
    ("chatml by hand, with a system text of its own", "chatml", CHATML_BY_HAND, None, EOT),
    ("olmo2", "olmo2", "{{ bos_token }}" + TULU, EOT, EOT),
    ("olmo2 with a token to begin with of its own", "olmo2", "{{- bos_token -}}" + TULU, "<s>", "</s>"),
    ("tulu", "tulu", TULU, None, EOT),
    ("tulu that thinks", "tulu", TULU.replace("{{ '<|assistant|>\n' }}", "{{ '<|assistant|>\n<think>' }}"), None, EOT),
    ("olmo3", "olmo3", olmo3(OLMO3_SYSTEM, "", "<|im_start|>assistant\n"), EOT, EOT),
    ("olmo3 with another system text", "olmo3",
     olmo3("You are Olmo. You do not currently have access to any functions. <functions></functions>", "",
           "<|im_start|>assistant\n"), EOT, EOT),
    ("olmo3-think", "olmo3-think",
     olmo3(THINK_SYSTEM, " You do not currently have access to any functions. <functions></functions>",
           "<|im_start|>assistant\n<think>"), EOT, EOT),
    ("olmo, which FlexOlmo is fine-tuned with", "olmo3", OLMO, EOT, EOT),
    ("olmo3 as released, the makers' name in its default text", "olmo3", OLMO31, EOT, EOT),
    ("the same that thinks, as of Olmo 3.2 on", "olmo3",
     OLMO31.replace("assistant\n' -}}{%- endif -%}{%- endfor", "assistant\n<think>' -}}{%- endif -%}{%- endfor"), EOT, EOT),
]

CONVERSATIONS = [
    [("user", "How are you doing?")],
    [("system", "You are terse."), ("user", "2+2?"), ("assistant", "4"), ("user", "and 3+3?")],
    [("user", "A"), ("assistant", "B")],
    [("user", "  blanks \n"), ("assistant", "\n\n"), ("user", "")],
    [("user", "one"), ("user", "two"), ("assistant", "three"), ("assistant", "four"), ("user", "five")],
    [("user", "ä中😀 <|im_end|> {{ x }} {% if %}"), ("assistant", "'\"\\"), ("user", "<think></think>")],
    [("system", ""), ("user", "x"), ("assistant", ""), ("user", "y"), ("assistant", "z")],
]

PIECE_MESSAGES = [("system", "S"), ("user", " u v "), ("assistant", "<think>t</think>a"), ("user", "end")]
PIECES = [
    "a\n{% if true %}\nb\n{% endif %}\nc\n",
    "  {% if true %}x{% endif %}  y\n  {{ 'z' }}\n\n",
    "a  {%- if true -%}  b  {%- endif -%}  c",
    "a {%+ if true +%} b {% endif %}\nc",
    "{# one #}\n{#- two -#}\n x {{- 1 -}} y",
    "{% for m in messages %}{{ loop.index }}/{{ loop.length }}{% if loop.first %}F{% endif %}{% if loop.last %}L{% endif %}"
    "{{ loop.index0 % 2 }}{{ m.role[0:0] if false else m.role }};{% endfor %}",
    "{{ messages[0].role ~ messages[-1]['content'] ~ (messages|length) }}",
    "{% for m in messages[1:3] %}{{ m.content|trim }}|{% endfor %}",
    "{{ 'yes' if messages|selectattr('role', 'equalto', 'user')|list|length == 2 else 'no' }}",
    "{{ messages[2].content.split('</think>')[-1] }}{{ messages[1].content.strip() }}{{ messages[1].content.lstrip() }}",
    "{% set x = 'a' %}{% for m in messages %}{% set x = x + m.role %}{{ x }} {% endfor %}{{ x }}",
    "{% set ns = namespace(n=0, last='') %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% set ns.last = m.role %}"
    "{% endfor %}{{ ns.n }}{{ ns.last }}",
    "{{ nothing }}{{ 'd' if nothing is defined else 'u' }}{{ 'n' if none is none }}{{ messages[0].tool_calls is defined }}"
    .replace("{{ messages[0].tool_calls is defined }}", "{{ 'no' if messages[0].tool_calls is not defined else 'yes' }}"),
    "{{ 'a' if nothing and nothing.field.deeper else 'b' }}{{ 'c' if true or nothing.field.deeper else 'd' }}",
    "{{ 'in' if 'user' in ['user', 'x'] else 'out' }}{{ 'in' if 'b' not in 'abc' else 'out' }}",
    "{{ 'x' if not 1 == 2 and 3 > 2 and 2 <= 2 and 1 != 2 else 'y' }}",
    "{{ \"q'\\\"\\n\\t\\\\\" }}{{ 'it\\'s' }}",
    "{{ (messages[0].role | upper) + 'aBC'.capitalize() + 'aBC'|lower }}",
    "{{ messages[1].get('content', 'x') + messages[1].get('name', 'anonymous') }}",
    "{% if messages[0].content is string %}s{% elif true %}e{% else %}l{% endif %}",
    "{% if false %}{{ strftime_now('%Y') }}{% else %}ok{% endif %}",
    "{{ 'ab'.startswith('a') and 'yes' }}{{ 'ab'.endswith('a') or 'no' }}",
]


def main():
    def as_messages(turns):
        return [{"role": role, "content": content} for role, content in turns]

    out = {"templates": [], "pieces": [], "piece_messages": as_messages(PIECE_MESSAGES)}
    for label, shape, text, bos, eos in TEMPLATES:
        renderings = []
        for turns in CONVERSATIONS:
            for generate in (False, True):
                messages = as_messages(turns)
                renderings.append({"messages": messages, "add_generation_prompt": generate,
                                   "rendered": render(text, messages, bos or "", eos, generate)})
        out["templates"].append({"label": label, "shape": shape, "template": text, "bos": bos, "eos": eos,
                                 "renderings": renderings})
    for text in PIECES:
        out["pieces"].append({"template": text, "rendered": render(text, out["piece_messages"], "<s>", "</s>", True)})
    path = pathlib.Path(__file__).with_name("chat.json")
    path.write_text(json.dumps(out, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()

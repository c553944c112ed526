"""The chat formats of well-known model families: their templates, control tokens and what each makes of an answer.

The templates are written from the published formats, short of tools; each keeps what makes it hard: where BOS stands,
what is stripped, what is written between the generation prompt and the answer, which token ends a turn.
"""

from dataclasses import dataclass

_ALTERNATE = (
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
)

# White space before a word: GPT-2 gives its last character to the word, Llama 3 and Qwen keep blank lines together.
GPT2_SPLITS = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3_SPLITS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True)
class ChatFormat:
    """One family's format. `learned(answer)` is the exact text a model of it must learn."""

    name: str
    template: str
    eos: str
    turn_end: str
    bos: str | None = None
    control: tuple[str, ...] = ()  # further control tokens
    has_system: bool = True
    strips: bool = False  # the template strips the answer
    strips_newlines: bool = False  # only newlines on the left
    before: str = ""  # written before the answer, part of what the model must write
    after: str = ""  # written between the answer and the end of the turn
    tokenizer_adds_bos: bool = False
    splits: str = GPT2_SPLITS  # how text falls into words before it is tokenized
    is_sentencepiece: bool = False  # spaces are part of the word after them; a decoder drops the first
    swallows_space: bool = False  # control tokens take the white space on their right
    preamble: str = ""  # written before the last answer of a conversation, and not learned

    def learned(self, answer: str) -> str:
        if self.strips:
            answer = answer.strip()
        if self.strips_newlines:
            answer = answer.lstrip("\n")
        return self.before + answer + self.after + self.turn_end


_CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_QWEN25 = (
    "{% if messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n' }}"
    "{% endif %}" + _CHATML
)
# The thinking block stands before the last answer only, empty where a row has no thoughts.
_QWEN3 = """\
{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content %}
    {%- if message.role == "user" or message.role == "system" %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {%- set reasoning_content = '' %}
        {%- if '</think>' in content %}
            {%- set reasoning_content = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {%- if loop.index0 > ns.last_query_index %}
            {%- if loop.last or (not loop.last and reasoning_content) %}
                {{- '<|im_start|>' + message.role + '\\n<think>\\n' + reasoning_content.strip('\\n') }}
                {{- '\\n</think>\\n\\n' + content.lstrip('\\n') }}
            {%- else %}
                {{- '<|im_start|>' + message.role + '\\n' + content }}
            {%- endif %}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\\n' + content }}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}
"""
_LLAMA3 = (
    "{% set loop_messages = messages %}{% for message in loop_messages %}"
    "{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'"
    " + message['content'] | trim + '<|eot_id|>' %}"
    "{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
# 3.1 writes a system block of its own, with dates, and puts the user's system message into it.
_LLAMA31 = (
    "{{- bos_token }}{%- if messages[0]['role'] == 'system' %}{%- set system_message = messages[0]['content'] | trim %}"
    "{%- set messages = messages[1:] %}{%- else %}{%- set system_message = '' %}{%- endif %}"
    "{{- '<|start_header_id|>system<|end_header_id|>\n\n' }}{{- 'Cutting Knowledge Date: December 2023\n' }}"
    "{{- 'Today Date: 26 Jul 2024\n\n' }}{{- system_message }}{{- '<|eot_id|>' }}"
    "{%- for message in messages %}{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'"
    " + message['content'] | trim + '<|eot_id|>' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif %}"
)
_LLAMA2 = (
    "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}"
    "{% set system_message = messages[0]['content'] %}"
    "{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}"
    "{% for message in loop_messages %}" + _ALTERNATE + "{% if loop.index0 == 0 and system_message != false %}"
    "{% set content = '<<SYS>>\n' + system_message + '\n<</SYS>>\n\n' + message['content'] %}"
    "{% else %}{% set content = message['content'] %}{% endif %}"
    "{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
_GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}{% for message in messages %}" + _ALTERNATE + "{% if (message['role'] == 'assistant') %}"
    "{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}"
    "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}"
)
# Gemma 3 puts the system message in front of the first question.
_GEMMA3 = (
    "{{ bos_token }}{%- if messages[0]['role'] == 'system' -%}"
    "{%- set first_user_prefix = messages[0]['content'] + '\n\n' -%}"
    "{%- set loop_messages = messages[1:] -%}{%- else -%}{%- set first_user_prefix = '' -%}"
    "{%- set loop_messages = messages -%}{%- endif -%}{%- for message in loop_messages -%}" + _ALTERNATE + ""
    "{%- if (message['role'] == 'assistant') -%}{%- set role = 'model' -%}{%- else -%}"
    "{%- set role = message['role'] -%}{%- endif -%}"
    "{{ '<start_of_turn>' + role + '\n' + (first_user_prefix if loop.first else '') }}"
    "{{ message['content'] | trim }}{{ '<end_of_turn>\n' }}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{'<start_of_turn>model\n'}}{%- endif -%}"
)
# The system message is written only where a question ends the conversation.
MISTRAL_V3 = (
    "{%- if messages[0]['role'] == 'system' %}{%- set system_message = messages[0]['content'] %}"
    "{%- set loop_messages = messages[1:] %}{%- else %}{%- set loop_messages = messages %}{%- endif %}"
    "{{- bos_token }}{%- for message in loop_messages %}{%- if message['role'] == 'user' %}"
    "{%- if loop.last and system_message is defined %}"
    "{{- '[INST] ' + system_message + '\n\n' + message['content'] + '[/INST]' }}"
    "{%- else %}{{- '[INST] ' + message['content'] + '[/INST]' }}{%- endif %}"
    "{%- elif message['role'] == 'assistant' %}{{- ' ' + message['content'] + eos_token }}{%- endif %}{%- endfor %}"
)
_PHI3 = (
    "{% for message in messages %}{% if message['role'] == 'system' %}{{'<|system|>\n' + message['content'] + "
    "'<|end|>\n'}}{% elif message['role'] == 'user' %}{{'<|user|>\n' + message['content'] + '<|end|>\n'}}"
    "{% elif message['role'] == 'assistant' %}{{'<|assistant|>\n' + message['content'] + '<|end|>\n'}}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)
_PHI4 = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '<|im_sep|>' + message['content'] "
    "+ '<|im_end|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant<|im_sep|>' }}{% endif %}"
)
_ZEPHYR = """\
{% for message in messages %}
{% if message['role'] == 'user' %}
{{ '<|user|>\n' + message['content'] + eos_token }}
{% elif message['role'] == 'system' %}
{{ '<|system|>\n' + message['content'] + eos_token }}
{% elif message['role'] == 'assistant' %}
{{ '<|assistant|>\n'  + message['content'] + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}"""
# BOS and EOS are one token.
_OLMO2 = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'system' %}"
    "{{ '<|system|>\n' + message['content'] + '\n' }}{% elif message['role'] == 'user' %}"
    "{{ '<|user|>\n' + message['content'] + '\n' }}{% elif message['role'] == 'assistant' %}{% if not loop.last %}"
    "{{ '<|assistant|>\n'  + message['content'] + eos_token + '\n' }}{% else %}"
    "{{ '<|assistant|>\n'  + message['content'] + eos_token }}{% endif %}{% endif %}"
    "{% if loop.last and add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}{% endfor %}"
)
# The generation prompt ends without the space the answer starts with.
_DEEPSEEK = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}"
    "{{ 'User: ' + message['content'] + '\n\n' }}{% elif message['role'] == 'assistant' %}"
    "{{ 'Assistant: ' + message['content'] + eos_token }}{% elif message['role'] == 'system' %}"
    "{{ message['content'] + '\n\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
_GRANITE = (
    "{% for message in messages %}{{ '<|start_of_role|>' + message['role'] + '<|end_of_role|>' + message['content'] "
    "+ '<|end_of_text|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_of_role|>assistant<|end_of_role|>' }}{% endif %}"
)
_FALCON3 = (
    "{% for message in messages %}{% if not loop.last or message['role'] != 'assistant' %}"
    "{{ '<|' + message['role'] + '|>\n' + message['content'] + ('<|endoftext|>' if message['role'] == 'assistant' "
    "else '') + '\n' }}{% else %}{{ '<|assistant|>\n' + message['content'] + eos_token }}{% endif %}"
    "{% if loop.last and add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}{% endfor %}"
)

_CHATML_TOKENS = ("<|im_start|>", "<|endoftext|>")
FORMATS = (
    ChatFormat("chatml", _CHATML, eos="<|im_end|>", turn_end="<|im_end|>", control=_CHATML_TOKENS),
    ChatFormat(
        "qwen2.5",
        _QWEN25,
        eos="<|im_end|>",
        turn_end="<|im_end|>",
        control=_CHATML_TOKENS,
        splits=LLAMA3_SPLITS,
    ),
    ChatFormat(
        "qwen3",
        _QWEN3,
        splits=LLAMA3_SPLITS,
        eos="<|im_end|>",
        turn_end="<|im_end|>",
        control=_CHATML_TOKENS,
        strips_newlines=True,
        preamble="<think>\n\n</think>\n\n",
    ),
    ChatFormat(
        "llama3",
        _LLAMA3,
        splits=LLAMA3_SPLITS,
        eos="<|end_of_text|>",
        turn_end="<|eot_id|>",
        bos="<|begin_of_text|>",
        control=("<|start_header_id|>", "<|end_header_id|>"),
        strips=True,
        tokenizer_adds_bos=True,
    ),
    ChatFormat(
        "llama3.1",
        _LLAMA31,
        splits=LLAMA3_SPLITS,
        eos="<|eot_id|>",
        turn_end="<|eot_id|>",
        bos="<|begin_of_text|>",
        control=("<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>"),
        strips=True,
        tokenizer_adds_bos=True,
    ),
    ChatFormat(
        "llama2",
        _LLAMA2,
        eos="</s>",
        turn_end="</s>",
        bos="<s>",
        strips=True,
        before=" ",
        after=" ",
        tokenizer_adds_bos=True,
        is_sentencepiece=True,
    ),
    ChatFormat(
        "gemma",
        _GEMMA,
        eos="<eos>",
        turn_end="<end_of_turn>",
        bos="<bos>",
        control=("<start_of_turn>",),
        has_system=False,
        strips=True,
        tokenizer_adds_bos=True,
    ),
    ChatFormat(
        "gemma3",
        _GEMMA3,
        eos="<eos>",
        turn_end="<end_of_turn>",
        bos="<bos>",
        control=("<start_of_turn>",),
        strips=True,
        tokenizer_adds_bos=True,
    ),
    ChatFormat(
        "mistral-v3",
        MISTRAL_V3,
        eos="</s>",
        turn_end="</s>",
        bos="<s>",
        control=("[INST]", "[/INST]"),
        has_system=False,
        before=" ",
        tokenizer_adds_bos=True,
        is_sentencepiece=True,
    ),
    ChatFormat(
        "phi3",
        _PHI3,
        eos="<|endoftext|>",
        turn_end="<|end|>",
        bos="<s>",
        control=("<|system|>", "<|user|>", "<|assistant|>"),
        is_sentencepiece=True,
        swallows_space=True,
    ),
    ChatFormat("phi4", _PHI4, eos="<|im_end|>", turn_end="<|im_end|>", control=("<|im_start|>", "<|im_sep|>")),
    ChatFormat("zephyr", _ZEPHYR, eos="</s>", turn_end="</s>", bos="<s>", is_sentencepiece=True),
    ChatFormat(
        "olmo2",
        _OLMO2,
        eos="<|endoftext|>",
        turn_end="<|endoftext|>",
        bos="<|endoftext|>",
    ),
    ChatFormat(
        "deepseek",
        _DEEPSEEK,
        eos="<｜end▁of▁sentence｜>",  # noqa: RUF001 the token's own spelling
        turn_end="<｜end▁of▁sentence｜>",  # noqa: RUF001
        bos="<｜begin▁of▁sentence｜>",  # noqa: RUF001
        before=" ",
        tokenizer_adds_bos=True,
    ),
    ChatFormat(
        "granite",
        _GRANITE,
        eos="<|end_of_text|>",
        turn_end="<|end_of_text|>",
        control=("<|start_of_role|>", "<|end_of_role|>"),
    ),
    ChatFormat(
        "falcon3",
        _FALCON3,
        eos="<|endoftext|>",
        turn_end="<|endoftext|>",
        control=("<|system|>", "<|user|>", "<|assistant|>"),
    ),
)

"""ChatML: the chat template of models without one, with tools, tool calls and reasoning."""

from headway.data.examples.tokenizer import TURN_END, Tokenizer

# Tools, calls, results and reasoning are written as in the templates of Qwen3 and Hermes, which
# other programs parse. Unlike theirs, it keeps the reasoning of every turn, so that each answer is
# in the row as the model wrote it.
CHATML = """\
{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages and messages[0]['role'] == 'system' %}
        {{- messages[0]['content'] + '\\n\\n' }}
    {%- endif %}
    {{- '# Tools\\n\\nYou may call one or more functions to assist with the user query.\\n\\n' }}
    {{- 'You are provided with function signatures within <tools></tools> XML tags:\\n<tools>' }}
    {%- for tool in tools %}
        {{- '\\n' }}{{- tool | tojson }}
    {%- endfor %}
    {{- '\\n</tools>\\n\\nFor each function call, return a json object with function name ' }}
    {{- 'and arguments within <tool_call></tool_call> XML tags:\\n<tool_call>\\n' }}
    {{- '{"name": <function-name>, "arguments": <args-json-object>}\\n</tool_call>' }}
    {{- '<|im_end|>' }}{{- '\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message['role'] == 'assistant' %}
        {{- '<|im_start|>assistant\\n' }}
        {%- generation %}
            {%- if message['reasoning_content'] %}
                {%- set reasoning = message['reasoning_content'].strip('\\n') %}
                {{- '<think>\\n' + reasoning + '\\n</think>\\n\\n' }}
            {%- endif %}
            {{- message['content'] or '' }}
            {%- for tool_call in message['tool_calls'] or [] %}
                {%- set call = tool_call['function'] or tool_call %}
                {%- if message['content'] or not loop.first %}{{- '\\n' }}{% endif %}
                {{- '<tool_call>\\n{"name": "' ~ call['name'] ~ '", "arguments": ' }}
                {%- if call['arguments'] is string %}
                    {{- call['arguments'] }}
                {%- else %}
                    {{- (call['arguments'] or {}) | tojson }}
                {%- endif %}
                {{- '}\\n</tool_call>' }}
            {%- endfor %}
            {{- '<|im_end|>' }}
        {%- endgeneration %}
        {{- '\\n' }}
    {%- elif message['role'] == 'tool' %}
        {%- if loop.first or loop.previtem['role'] != 'tool' %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\\n<tool_response>\\n' ~ message['content'] ~ '\\n</tool_response>' }}
        {%- if loop.last or loop.nextitem['role'] != 'tool' %}
            {{- '<|im_end|>' }}{{- '\\n' }}
        {%- endif %}
    {%- elif not (tools and loop.first and message['role'] == 'system') %}
        {{- '<|im_start|>' + message['role'] + '\\n' }}
        {{- message['content'] + '<|im_end|>' }}{{- '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""


def chatml_for(tokenizer: Tokenizer) -> str:
    """ChatML for a tokenizer that has no template.

    Turns end in ChatML's own end token if the vocabulary has it, otherwise in the tokenizer's. The
    text starts with the BOS token if the tokenizer adds one.
    """
    template = CHATML
    if tokenizer.id_of(TURN_END) is None:
        template = template.replace(f"'{TURN_END}'", "eos_token")
    return template if tokenizer.bos_id is None else "{{- bos_token }}\n" + template

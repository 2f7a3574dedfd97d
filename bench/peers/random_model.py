"""A model with new weights in bf16, beside a tokenizer: TOKENIZER FOLDER CONFIG."""

import json
import shutil
import sys
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

tokenizer, folder = Path(sys.argv[1]), Path(sys.argv[2])
config = json.loads(sys.argv[3])
shutil.copytree(tokenizer, folder)
end = PreTrainedTokenizerFast.from_pretrained(tokenizer).eos_token_id
made = AutoConfig.for_model(config.pop("model_type"), **config, eos_token_id=end, bos_token_id=None)
torch.manual_seed(0)
with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
    model = AutoModelForCausalLM.from_config(made, dtype=torch.bfloat16)
model.save_pretrained(folder)

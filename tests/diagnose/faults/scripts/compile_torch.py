"""torch.compile, on a model that it takes a while for."""

import os
import sys
import warnings

os.environ["TORCHINDUCTOR_CACHE_DIR"] = sys.argv[1]
warnings.simplefilter("ignore")
import torch  # noqa: E402

layers = torch.nn.Sequential(
    *(
        torch.nn.Sequential(
            torch.nn.Linear(64, 64 + n), torch.nn.GELU(), torch.nn.Linear(64 + n, 64)
        )
        for n in range(60)
    )
)
model = torch.compile(layers)


def step() -> None:
    print("ready", flush=True)
    model(torch.ones(8, 64)).sum().backward()


step()

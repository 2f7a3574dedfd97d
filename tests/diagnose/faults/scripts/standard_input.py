def ask() -> str:
    print("ready", flush=True)
    return input("Overwrite the run? [y/N] ")


ask()

import threading

done = threading.Event()


def writer() -> None:
    done.wait()


thread = threading.Thread(target=writer, name="writer")
thread.start()


def finish() -> None:
    print("ready", flush=True)
    thread.join()
    done.set()


finish()

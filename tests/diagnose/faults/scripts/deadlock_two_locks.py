import threading
import time


class Saver:
    def __init__(self) -> None:
        self.weights_lock = threading.Lock()
        self.file_lock = threading.Lock()

    def save(self) -> None:
        with self.file_lock:
            time.sleep(0.2)
            with self.weights_lock:
                pass

    def train_step(self) -> None:
        with self.weights_lock:
            time.sleep(0.2)
            print("ready", flush=True)
            with self.file_lock:
                pass


saver = Saver()
threading.Thread(target=saver.save, name="saver", daemon=True).start()
saver.train_step()

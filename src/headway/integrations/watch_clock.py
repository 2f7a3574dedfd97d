"""Watch clock: the time of a watched run, and how much of it Headway itself took."""

from dataclasses import dataclass

from headway.runs.watched.watched_receipt import SeenTime


@dataclass
class WatchClock:
    """Seconds that Headway took from the training thread, and when the steps ran."""

    began_s: float
    watching_s: float
    mark_s: float  # when the last step, evaluation or save ended
    watching_before_s: float = 0.0  # when the first step began
    watching_last_s: float = 0.0  # when the last step ended
    first_batch_s: float = 0.0
    first_update_s: float = 0.0
    last_update_s: float = 0.0

    def result(self, now_s: float, max_silence_s: float) -> SeenTime:
        """As the receipt has it."""
        stepped = bool(self.first_update_s)
        return SeenTime(
            total=now_s - self.began_s,
            to_first_step=self.first_update_s - self.began_s if stepped else None,
            max_silence=max_silence_s,
            watching=self.watching_s,
            watching_steps=self.watching_last_s - self.watching_before_s if stepped else 0.0,
            steps=self.last_update_s - self.first_batch_s if stepped else 0.0,
        )

"""Buckets of moto, which all of a process's stores share, whatever their addresses."""


def forget_all_buckets() -> None:
    """Begin with none: another file's tests may have run in this process before."""
    from moto.s3.models import s3_backends

    s3_backends.reset()

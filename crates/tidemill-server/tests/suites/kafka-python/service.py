"""What kafka-python's test fixtures start brokers with. Its source release lacks the module; for
a broker that is there already nothing of it is needed but the names."""


class ExternalService:
    """A broker that somebody else started."""

    def __init__(self, host, port):
        self.host = host
        self.port = port

    def open(self):
        pass

    def close(self):
        pass

    def stop(self):
        pass

    def dump_logs(self):
        pass


class SpawnedService:
    """A broker of the tests' own, which is not to be had here."""

    def __init__(self, *_):
        raise RuntimeError("the tests run against a broker that is there")

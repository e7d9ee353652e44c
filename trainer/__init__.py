"""Dataset to adapter to scored run. Stages meet export on disk only: a finished run is a folder."""

"""A model directory for tests: an energy band around 150 A."""

from pathlib import Path

from pipelines.models import write_manifest

__all__ = ["write_band_model"]


def write_band_model(directory: Path, program: str = "T1", mean_current_a: float = 150.0, k: float = 4.0) -> Path:
    """Write and return a model that knows `program` alone."""
    directory.mkdir(parents=True)
    (directory / "model.toml").write_text(
        f'detector = "energy_band"\nk = {k}\n'
        f"[programs.{program}.mean_current_a]\nmean = {mean_current_a}\nstd = 1.0\n"
    )
    write_manifest(directory)
    return directory

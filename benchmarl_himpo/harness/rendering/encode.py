"""Encodes films and pictures to files."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor


def write_mp4(video: Tensor, path: Path, steps_per_second: int) -> None:
    """Encode a film with H.264. Shape ``[T, channels, height, width]``, uint8, height and width even."""
    import av  # a dependency of BenchMARL, needed only for films

    with av.open(str(path), mode="w") as container:
        stream = container.add_stream("h264", rate=steps_per_second)
        stream.height, stream.width = video.shape[-2:]
        stream.pix_fmt = "yuv420p"
        for frame in video.permute(0, 2, 3, 1).contiguous().numpy():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def write_gif(video: Tensor, path: Path, steps_per_second: int) -> None:
    """Encode a film as a looping GIF, at half the size. Shape ``[T, channels, height, width]``, uint8."""
    from PIL import Image  # comes with matplotlib

    height, width = video.shape[-2:]
    frames = [Image.fromarray(frame) for frame in video.permute(0, 2, 3, 1).contiguous().numpy()]
    small = [frame.resize((width // 2, height // 2), Image.Resampling.LANCZOS).quantize(64) for frame in frames]
    small[0].save(path, save_all=True, append_images=small[1:], duration=1000 // steps_per_second, loop=0)


def write_png(picture: Tensor, path: Path) -> None:
    """Encode one frame. Shape ``[channels, height, width]``, uint8."""
    from PIL import Image  # comes with matplotlib

    Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy()).save(path, optimize=True)

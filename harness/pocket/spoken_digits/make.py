"""Make the bundled clips: ten digits in English and Mandarin by several synthetic voices (needs espeak-ng on the PATH).

    python harness/pocket/spoken_digits/make.py

writes `train.flac`, `validation.flac`, `test.flac` (8 kHz, 16 bit, mono, all clips of a split end to end) and
`index.json` beside this file: for each split a list of {language, digit, voice, start, stop}, in samples. No voice is
in two splits. The clips are the output of espeak-ng, cut to where there is sound.
"""

from __future__ import annotations

import io
import json
import subprocess
from pathlib import Path

import numpy as np
import soundfile
import soxr

RATE = 8_000
WORDS = {
    "en": ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"],
    "zh": list("零一二三四五六七八九"),
}
MANDARIN = "cmn-latn-pinyin"
# Accent for English, variant of the voice, words a minute.
VOICES = {
    "train": [
        ("en-us", "m1", 150), ("en-us", "f2", 140), ("en-gb", "m3", 165), ("en-gb", "f4", 150), ("en-us", "m5", 180),
        ("en-gb-x-rp", "f1", 130), ("en-us", "Annie", 160), ("en-gb", "Mike", 145), ("en-us", "m7", 125),
        ("en-us-nyc", "Andy", 170), ("en-gb", "Alicia", 155), ("en-us", "steph", 140),
    ],
    "validation": [("en-us", "f5", 150), ("en-gb", "m4", 145)],
    "test": [("en-us", "m2", 150), ("en-gb", "f3", 155), ("en-gb-x-rp", "m6", 140), ("en-us", "linda", 150)],
}  # fmt: skip


def speak(text: str, voice: str, words_per_minute: int) -> np.ndarray:
    """A voice saying `text`: int16 [n] at RATE and 70 % of full scale, without the silence at both ends.

    The four lowest bits are empty: FLAC then needs a third less.
    """
    done = subprocess.run(
        ["espeak-ng", "-v", voice, "-s", str(words_per_minute), "--stdout", text], check=True, capture_output=True
    )
    sound, rate = soundfile.read(io.BytesIO(done.stdout), dtype="float32")
    sound = soxr.resample(sound, rate, RATE)
    loud = np.flatnonzero(np.abs(sound) > 0.02 * np.abs(sound).max())
    sound = sound[max(0, loud[0] - 80) : loud[-1] + 240]
    return (sound / np.abs(sound).max() * 0.7 * 2047).astype(np.int16) * 16


def main() -> None:
    here = Path(__file__).parent
    index: dict[str, list[dict]] = {}
    for split, voices in VOICES.items():
        clips, rows, start = [], [], 0
        for accent, variant, speed in voices:
            for language, words in WORDS.items():
                voice = f"{accent if language == 'en' else MANDARIN}+{variant}"
                for digit, word in enumerate(words):
                    clip = speak(word, voice, speed)
                    clips.append(clip)
                    stop = start + len(clip)
                    rows.append({"language": language, "digit": digit, "voice": voice, "start": start, "stop": stop})
                    start = stop
        soundfile.write(here / f"{split}.flac", np.concatenate(clips), RATE, subtype="PCM_16")
        index[split] = rows
    lines = (f"{json.dumps(split)}: [\n" + ",\n".join(map(json.dumps, rows)) + "]" for split, rows in index.items())
    (here / "index.json").write_text("{" + ",\n".join(lines) + "}\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""VATEX (Wang et al. 2019): videos with ten English and ten Chinese captions; the videos as frame features.

``[{"videoID": "Ptf_2VRj-V0_000122_000132", "enCap": [10 texts], "chCap": [10 texts]}, ...]``. The last five of both
languages are translations of each other by people, the first five are not. A machine's translations of the English
captions come in a file of their own (``Ptf_2VRj-V0_000122_000132#enc2zh#0 ...``, see `translated_captions`).

Nothing is decoded here: a video's features are read by its id (`frame_features`).
"""

from __future__ import annotations

from pathlib import Path

from heritage_align.data.collection import Collection
from heritage_align.data.fields import UniqueIds, as_list, as_text, as_texts, required
from heritage_align.data.lines import read_json
from heritage_align.data.pictures import FilePictures
from heritage_align.data.problems import Problems
from heritage_align.data.translated_captions import numbered_captions
from heritage_align.types import TextItem

PARALLEL = slice(5, 10)
"""The captions of which those of both languages are translations of each other."""


def read_vatex(
    path: Path,
    *,
    translations: Path | None = None,
    parallel_only: bool = False,
    name: str | None = None,
    encoding: str | None = None,
) -> Collection:
    """Read one of VATEX's caption files; a text's id is ``<video>#<language>#<number>``, languages ``en`` and ``zh``.

    Args:
        path: ``vatex_training_v1.0.json``, or one of validation; a test file without ``chCap`` has English alone.
        translations: file with a machine's Chinese for every English caption, which takes the place of ``chCap``.
        parallel_only: take the captions that people translated, 5 to 9 of each language; only then, or with
            `translations`, the k-th caption in one language is that in the other.
        name: of the data set; by default the file's name.
        encoding: of the translations; None finds it out (`data.encodings`) and says a guess on stderr.

    Raises:
        DataError: the file cannot be read or is not of this form; entries are named as ``[12]``; a caption has no
            translation.
    """
    problems = Problems(path)
    unique = UniqueIds("videoID", problems)
    machine = None if translations is None else numbered_captions(translations, problems, encoding)
    items: list[TextItem] = []
    videos: list[str] = []
    for number, entry in enumerate(read_json(path, "a VATEX caption file", as_list)):
        place = f"{path}, [{number}]"
        try:
            if not isinstance(entry, dict):
                raise ValueError(f"expected an object {{...}}, got {type(entry).__name__}")
            video = required(entry, "videoID", as_text)
            english = required(entry, "enCap", as_texts)
            chinese = required(entry, "chCap", as_texts) if "chCap" in entry and machine is None else ()
            if machine is not None:
                chinese = tuple(_translated(machine, video, k, translations) for k in range(len(english)))
        except ValueError as error:
            problems.add(place, str(error))
            continue
        if unique.add(video, place):
            videos.append(video)
            for language, texts in (("en", english), ("zh", chinese)):
                numbered = list(enumerate(texts))[PARALLEL] if parallel_only else enumerate(texts)
                items += [TextItem(f"{video}#{language}#{k}", t, (video,), language=language) for k, t in numbered]
    problems.raise_if_any()
    # There are no pictures: the path is what an error names where one is asked for.
    pictures = FilePictures({video: path.parent / f"{video}.mp4" for video in videos})
    return Collection(name or path.stem, pictures, items, require_pictures=False)


def _translated(machine: dict[tuple[str, str], str], video: str, number: int, source: Path | None) -> str:
    text = machine.get((video, str(number)))
    if text is None:
        raise ValueError(f"caption {number} of {video!r} has no translation in {source}")
    return text

"""Taking a modality out, or exchanging it: the right thing goes, nothing else moves, nobody is given what is theirs."""

from __future__ import annotations

from collections import Counter

import pytest

from harness.config.specs import DatasetSpec
from harness.data.ablation import ablated, applies
from harness.dataset import Dataset
from harness.errors import UserError
from harness.pocket import samples as pocket
from harness.records import ABLATIONS, Media, Sample


def media(kind: str, *keys: str) -> tuple[Media, ...]:
    return tuple(Media(kind, key, b"") for key in keys)  # pyright: ignore[reportArgumentType]


def dataset(*samples: Sample) -> Dataset:
    return Dataset("set", "en", samples)


@pytest.fixture
def spoken() -> Dataset:
    """Two questions about each of five pictures, with a clip each; one picture has a question without a clip."""
    samples = []
    for i in range(10):
        clips = media("audio", f"clip {i}") if i != 9 else ()
        samples.append(
            Sample(str(i), f"scene {i // 2}", "en", (*media("image", f"picture {i // 2}"), *clips), f"question {i}?")
        )
    return dataset(*samples)


def test_what_is_taken_out_is_gone_and_all_else_stays(spoken):
    without = ablated(spoken, "audio", 0)
    assert [sample.media for sample in without] == [sample.media[:1] for sample in spoken]
    assert [(s.id, s.cluster, s.question) for s in without] == [(s.id, s.cluster, s.question) for s in spoken]
    assert [sample.question for sample in ablated(spoken, "text", 0)] == [""] * 10
    assert ablated(spoken, "none", 0) is spoken


@pytest.mark.parametrize("kind", ["image", "audio", "text"])
@pytest.mark.parametrize("seed", range(8))
def test_a_shuffled_sample_never_has_what_its_own_cluster_holds(spoken, kind, seed):
    own: dict[str, set] = {}
    pieces = lambda s: {s.question} if kind == "text" else {m for m in s.media if m.kind == kind}  # noqa: E731
    for sample in spoken:
        own.setdefault(sample.cluster, set()).update(pieces(sample))
    shuffled = ablated(spoken, f"shuffled-{kind}", seed)
    for before, after in zip(spoken, shuffled, strict=True):
        assert pieces(after).isdisjoint(own[before.cluster])
        assert len(pieces(after)) == len(pieces(before))
        assert after.id == before.id
        assert [m.kind for m in after.media] == [m.kind for m in before.media]


def test_the_seed_alone_says_who_is_given_what(spoken):
    given = [[s.media for s in ablated(spoken, "shuffled-audio", seed)] for seed in (1, 1, 2)]
    assert given[0] == given[1] != given[2]


def test_every_clip_of_the_pocket_data_is_given_to_another_scene():
    spec = DatasetSpec(source="pocket", subset="audio", tasks=["vqa"], prior_by="category")
    plain = pocket.load("pocket-audio", spec, "vqa", "zh")
    shuffled = ablated(plain, "shuffled-audio", 0)
    given = Counter(shuffled[i].media[1].key for i in range(len(plain)))
    assert set(given.values()) == {1}
    assert all(shuffled[i].media[1].key.split("-")[:3] != plain[i].media[1].key.split("-")[:3] for i in range(200))
    assert shuffled[5].media[0] == plain[5].media[0]


def test_a_picture_that_two_clusters_share_is_given_to_neither():
    same = [Sample(str(i), str(i), "en", media("image", "a" if i < 2 else "b")) for i in range(3)]
    shuffled = ablated(dataset(*same), "shuffled-image", 0)
    assert [sample.media[0].key for sample in shuffled] == ["b", "b", "a"]


def test_a_data_set_in_which_nobody_can_give_is_refused():
    alone = dataset(*(Sample(str(i), "one scene", "en", media("image", str(i))) for i in range(3)))
    with pytest.raises(UserError, match="no other sample has another image"):
        ablated(alone, "shuffled-image", 0)


def test_each_of_several_pictures_is_exchanged_in_its_place():
    two = Sample("1", "1", "en", (*media("image", "a", "b"), *media("audio", "c")))
    one = Sample("2", "2", "en", media("image", "d"))
    shuffled = ablated(dataset(two, one), "shuffled-image", 0)
    assert [medium.key for medium in shuffled[0].media] == ["d", "d", "c"]
    assert [medium.key for medium in shuffled[1].media] == ["a"]


def test_an_ablation_applies_where_some_sample_has_what_it_takes(spoken):
    assert {name for name in ABLATIONS if applies(spoken, name)} == set(ABLATIONS)
    silent = dataset(*(Sample(s.id, s.cluster, "en", s.media[:1]) for s in spoken))
    assert {name for name in ABLATIONS if applies(silent, name)} == {"none", "image", "shuffled-image"}


def test_drawn_samples_are_given_the_same_whatever_else_is_drawn(spoken):
    shuffled = ablated(spoken, "shuffled-image", 3)
    assert [s.media for s in shuffled.take([4, 7])] == [shuffled[4].media, shuffled[7].media]
    assert [s.media for s in shuffled[4:6]] == [shuffled[4].media, shuffled[5].media]
    assert shuffled[-1].media == shuffled[9].media

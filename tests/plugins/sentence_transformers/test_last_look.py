"""The last stage of a search with a tiny cross-encoder: what it ranks, what it leaves alone, and who honours it."""

from __future__ import annotations

import json
import shutil
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from heritage_align import Pipeline, build_index, dataset_sources, load_config
from heritage_align.cli import cli
from heritage_align.errors import ConfigError, DataError, Note
from heritage_align.evaluation import encode_dataset, evaluate_system
from heritage_align.plugins import default_registry
from heritage_align.runs import from_trec, to_trec
from heritage_align.schema import config_schema
from heritage_align.search import Calibration, Detail, Searcher, write_calibration
from heritage_align.search.last_look import LastLook, looking_for_details
from heritage_align.search.relevance import ScoreLaw
from heritage_align.types import Hit, Run, TextItem

QUERY = TextItem("q", "红地团窠牡丹纹锦")


def document(models, **last):
    return {
        "version": 1,
        "name": "look",
        "encoder": {"name": "cn_clip", "model": "motif-small"},
        "proposer": {"name": "patch_grid"},
        "fragmenter": {"name": "punctuation"},
        "similarity": {"name": "late_interaction"},
        "data": {"name": "motifs", "split": "test", "artworks": 5, "variants": 2},
        "search": {
            "candidates": 8,
            "top_k": 3,
            "last": {"name": "cross_encoder", "model": str(models / "reranker"), "candidates": 4, **last},
        },
        "runtime": {"device": "cpu", "workers": 2},
    }


@pytest.fixture(scope="module")
def pipeline(models):
    return Pipeline.from_config(document(models))


@pytest.fixture(scope="module")
def plain(models):
    return Pipeline.from_config({**document(models), "search": {"candidates": 8, "top_k": 3}})


@pytest.fixture(scope="module")
def store(pipeline, tmp_path_factory):
    folder = tmp_path_factory.mktemp("look") / "store"
    build_index(pipeline, dataset_sources(pipeline.dataset()), folder)
    return folder


def rated(pipeline, ids, text=QUERY.text):
    dataset = pipeline.dataset()
    return pipeline.reranker.rate([(dataset.load_image(i), text) for i in ids]).tolist()


def test_the_best_answers_are_ranked_by_what_the_reranker_says(pipeline, plain, store):
    [before] = Searcher.open(plain, store).hits([QUERY], top_k=8)
    ratings = rated(pipeline, [hit.id for hit in before[:4]])
    expected = [hit for _, hit in sorted(zip(ratings, before), key=lambda pair: -pair[0])]
    [after] = Searcher.open(pipeline, store).hits([QUERY])
    assert [hit.id for hit in after] == [hit.id for hit in expected[:3]]
    assert [hit.rank for hit in after] == [1, 2, 3]
    assert [hit.last for hit in after] == pytest.approx(sorted(ratings, reverse=True)[:3], abs=1e-5)
    scores = {hit.id: (hit.score, hit.regions) for hit in before}
    assert all((hit.score, hit.regions) == scores[hit.id] for hit in after)
    assert after[0].asdict()["last"] == after[0].last
    assert "last" not in before[0].asdict()


def test_more_answers_than_are_looked_at_follow_in_their_order(pipeline, plain, store):
    [before] = Searcher.open(plain, store).hits([QUERY], top_k=8)
    [after] = Searcher.open(pipeline, store).hits([QUERY], top_k=8)
    assert [hit.id for hit in after[4:]] == [hit.id for hit in before[4:]]
    assert {hit.id for hit in after[:4]} == {hit.id for hit in before[:4]}
    assert [hit.last is None for hit in after] == [False] * 4 + [True] * 4


def test_a_run_has_scores_that_fall_with_the_ranks(pipeline, plain, store):
    searcher = Searcher.open(pipeline, store)
    [hits], run = searcher.hits([QUERY], top_k=8), searcher.search([QUERY], top_k=8)
    assert run.ids == [[hit.id for hit in hits]]
    assert run.scores[0] == sorted(run.scores[0], reverse=True)
    assert run.scores[0][:4] == [hit.last for hit in hits[:4]]
    gaps = [hits[4].score - hit.score for hit in hits[4:]]
    assert [run.scores[0][4] - score for score in run.scores[0][4:]] == pytest.approx(gaps, abs=1e-6)
    unlooked = searcher.search([QUERY], last_look=False)
    assert (unlooked.ids, unlooked.scores) == (lambda r: (r.ids, r.scores))(Searcher.open(plain, store).search([QUERY]))


def test_fewer_candidates_are_looked_at_where_fewer_are_scored(pipeline, store):
    [hits] = Searcher.open(pipeline, store).hits([QUERY], top_k=2, candidates=2)
    assert [hit.last is not None for hit in hits] == [True, True]
    for wrong in ({"top_k": 0}, {"candidates": 0}):
        with pytest.raises(DataError, match="expected a whole number of at least 1"):
            Searcher.open(pipeline, store).hits([QUERY], **wrong)


def test_rerank_and_rank_look_last_too(pipeline, plain, store, tmp_path):
    searcher = Searcher.open(pipeline, store)
    ids = list(searcher.store.ids)
    before = Searcher.open(plain, store).rerank(Run(("q",), [ids], [[0.0] * len(ids)]), [QUERY])
    after = searcher.rerank(Run(("q",), [ids], [[0.0] * len(ids)]), [QUERY])
    assert sorted(after.ids[0]) == sorted(ids)
    assert after.ids[0][4:] == before.ids[0][4:]
    assert after.scores[0][:4] == pytest.approx(sorted(rated(pipeline, before.ids[0][:4]), reverse=True), abs=1e-5)
    assert after.scores[0] == sorted(after.scores[0], reverse=True)
    hits = searcher.rank(QUERY, ids, top_k=5)
    assert [hit.id for hit in hits] == after.ids[0][:5]
    assert hits[0].score == pytest.approx(before.scores[0][before.ids[0].index(hits[0].id)], abs=1e-6)
    to_trec(after, tmp_path / "run.trec")
    assert from_trec(tmp_path / "run.trec").ids == after.ids


def test_an_evaluation_ranks_pictures_after_the_look_and_texts_without(pipeline, plain):
    dataset = pipeline.dataset()
    encoded = encode_dataset(pipeline, dataset)
    looked, unlooked = (evaluate_system(p, encoded, dataset=dataset) for p in (pipeline, plain))
    torch.testing.assert_close(looked.scores, unlooked.scores)
    assert looked.result.i2t.asdict() == unlooked.result.i2t.asdict()
    assert looked.t2i_scores is looked.looked
    column = 3
    order = unlooked.scores[:, column].argsort(descending=True, stable=True).tolist()
    ids = [encoded.images.ids[row] for row in order]
    ratings = rated(pipeline, ids[:4], encoded.items[column].text)
    best = [ids[n] for n in sorted(range(4), key=lambda n: -ratings[n])]
    after = looked.looked[:, column].argsort(descending=True, stable=True).tolist()
    assert [encoded.images.ids[row] for row in after] == best + ids[4:]


def test_commands_honour_it(models, store, tmp_path):
    config = tmp_path / "look.yaml"
    config.write_text(json.dumps(document(models)))
    run = CliRunner().invoke(cli, ["search", str(config), QUERY.text, "--store", str(store)])
    assert run.exit_code == 0, run.output
    assert run.stdout.count("  last 0.") == 3
    found = CliRunner().invoke(cli, ["evaluate", str(config), "--store", str(store), "--json"])
    assert found.exit_code == 0, found.output
    unlooked = ["--set", "search.last=null"]
    other = CliRunner().invoke(cli, ["evaluate", str(config), "--store", str(store), "--json", *unlooked])
    first, second = (json.loads(result.stdout)["systems"][0] for result in (found, other))
    assert first["i2t"] == second["i2t"]
    assert first["t2i"] != second["t2i"]


@pytest.fixture(scope="module")
def first_alone(pipeline, plain, store, tmp_path_factory):
    """A store, and a text of which the best picture alone has a relevance of 0.95, and is not what the reranker
    prefers."""
    folder = tmp_path_factory.mktemp("calibrated") / "store"
    shutil.copytree(store, folder)
    searcher = Searcher.open(plain, folder)
    for item in pipeline.dataset().texts:
        query = TextItem("q", item.text)
        [hits] = searcher.hits([query], top_k=8)
        ratings = rated(pipeline, [hit.id for hit in hits[:4]], query.text)
        if ratings.index(max(ratings)) and hits[0].score > hits[1].score:
            break
    else:
        pytest.fail("the reranker prefers the best picture of every text")
    between = [hits[1].score + (hits[0].score - hits[1].score) * n / 61 for n in range(1, 61)]
    for each in (pipeline, plain):
        write_calibration(each, searcher.store, Calibration({"any": ScoreLaw(tuple(between))}, "made", depth=8))
    return folder, query, hits


def test_what_does_not_fit_is_not_looked_at(pipeline, first_alone):
    folder, query, before = first_alone
    searcher = Searcher.open(pipeline, folder)
    [[hit]] = searcher.hits([query], top_k=1, min_relevance=0.95)
    assert (hit.id, hit.last) == (before[0].id, pytest.approx(rated(pipeline, [before[0].id], query.text)[0], abs=1e-5))
    assert searcher.hits([query], top_k=1)[0][0].id != before[0].id
    [unlooked] = searcher.hits([query], top_k=8, last_look=False)
    assert [(hit.id, hit.last) for hit in unlooked] == [(hit.id, None) for hit in before]
    assert searcher.search([query], top_k=1, min_relevance=0.95).ids == [[before[0].id]]


@pytest.mark.parametrize("bound", ["0.95", "0.9999999"])
def test_a_single_search_and_one_of_many_leave_out_the_same(models, first_alone, tmp_path, bound):
    folder, query, before = first_alone
    config, queries = tmp_path / "look.yaml", tmp_path / "queries.txt"
    config.write_text(json.dumps(document(models)))
    queries.write_text(f"q\t{query.text}\n", encoding="utf-8")
    asked = ["search", str(config), "--store", str(folder), "--top-k", "1", "--min-relevance", bound]
    single = CliRunner().invoke(cli, [*asked, query.text, "--json"])
    many = CliRunner().invoke(cli, [*asked, "--queries", str(queries)])
    assert (single.exit_code, many.exit_code) == (0, 0), single.output + many.output
    one = json.loads(single.stdout)
    assert one["hits"] == json.loads(many.stdout)["hits"]
    if bound == "0.95":
        assert [hit["id"] for hit in one["hits"]] == [before[0].id]
    else:
        assert one["nothing_fits"]["best"]["id"] == before[0].id


def test_the_service_looks_last_and_says_so(models, first_alone):
    pytest.importorskip("fastapi", reason="the optional extra 'serve' is not installed")
    from starlette.testclient import TestClient

    from heritage_align.service.app import create_app
    from heritage_align.service.served import Catalogue, Source

    folder, query, before = first_alone
    catalogue = Catalogue([Source(load_config(document(models)), folder)])
    with TestClient(create_app(catalogue)) as client:

        def asked(**more):
            return client.post("/search", json={"text": query.text, "k": 1, **more}).json()

        hit = asked()["hits"][0]
        assert hit["id"] != before[0].id
        assert "last" in client.get("/openapi.json").json()["components"]["schemas"]["HitModel"]["properties"]
        [kept] = asked(min_relevance=0.95)["hits"]
        assert kept["id"] == before[0].id
        assert kept["last"] < hit["last"]
        nothing = asked(min_relevance=0.9999999)
        assert nothing["hits"] == []
        assert nothing["nothing_fits"]["best"]["id"] == before[0].id


def test_a_detail_is_answered_without_it_and_that_is_said(pipeline, plain, store):
    picture = pipeline.dataset().load_image(pipeline.dataset().image_ids[0])
    detail = Detail(picture, "corner", (0, 0, 80, 80))
    wanted = Searcher.open(plain, store).search_details([detail])
    with pytest.warns(Note, match="search.last: 'cross_encoder' looks for texts alone; answers to details are ranked"):
        assert Searcher.open(pipeline, store).search_details([detail]) == wanted


def test_what_looks_for_details_takes_its_place(pipeline):
    looking = looking_for_details(pipeline.config)
    assert (pipeline.config.last.spec.name, looking.last.spec.name) == ("cross_encoder", "keypoints")
    assert looking.data == pipeline.config.data
    assert looking_for_details(looking) is looking


def test_the_service_says_so_of_a_detail_too(pipeline, plain, store):
    pytest.importorskip("fastapi", reason="the optional extra 'serve' is not installed")
    from heritage_align.service.answers import PictureQuestion, search_pictures
    from heritage_align.service.served import Served, Source

    detail = Detail(pipeline.dataset().load_image(pipeline.dataset().image_ids[0]), "corner", (0, 0, 80, 80))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Note)  # as the service does
        question = PictureQuestion((detail,), (), None, 0.5, whole=False, top_k=3, candidates=8)
        found = search_pictures(Served(Source(pipeline.config, store)), question)
    assert found.hits == Searcher.open(plain, store).search_details([detail])
    assert [note for note in found.notes if "looks for texts alone" in note]


def test_many_threads_get_the_same_answers(pipeline, store):
    with Searcher.open(pipeline, store) as searcher, ThreadPoolExecutor(4) as pool:
        wanted = searcher.hits([QUERY])
        assert all(found == wanted for found in pool.map(lambda _: searcher.hits([QUERY]), range(6)))


def folder_document(models, pictures, **last):
    return {**document(models, **last), "data": {"name": "folder", "folder": str(pictures)}}


@pytest.fixture
def pictures(tmp_path, pipeline):
    folder = tmp_path / "pictures"
    folder.mkdir()
    dataset = pipeline.dataset()
    for number, image_id in enumerate(dataset.image_ids[:5]):
        dataset.load_image(image_id).save(folder / f"{number}.png")
    return folder


def test_a_picture_that_cannot_be_opened_comes_after_those_that_were_looked_at(models, pictures, tmp_path):
    pipeline = Pipeline.from_config(folder_document(models, pictures))
    build_index(pipeline, dataset_sources(pipeline.dataset()), tmp_path / "own")
    [sound] = Searcher.open(pipeline, tmp_path / "own").hits([QUERY], top_k=5)
    (pictures / sound[0].id).write_bytes(b"no picture any more")
    searcher = Searcher.open(pipeline, tmp_path / "own")
    with pytest.warns(Note, match=f"1 of 4 pictures are not looked at, the first: .*{sound[0].id}"):
        [hits] = searcher.hits([QUERY], top_k=5)
    assert [hit.id for hit in hits] == [*(hit.id for hit in sound[1:4]), sound[0].id, sound[4].id]
    assert [hit.last is None for hit in hits] == [False] * 3 + [True] * 2
    for file in pictures.iterdir():
        Image.new("RGB", (4, 4)).save(pictures / "other.png")
        file.write_bytes(b"")
    with pytest.raises(DataError, match="not one of 4 pictures can be looked at"):
        searcher.hits([QUERY])


def test_pictures_that_the_data_set_does_not_have_are_named(models, pictures):
    pipeline = Pipeline.from_config(folder_document(models, pictures))
    strange = [Hit(f"strange-{number}.png", 0.5, number) for number in range(1, 5)]
    with pytest.raises(DataError, match="not one of 4 pictures can be looked at, the first: .* is not in the data set"):
        LastLook(pipeline, pipeline.dataset()).ranked([QUERY], [strange])


def test_the_store_knows_its_pictures_where_the_configuration_does_not(models, pipeline, store, pictures, tmp_path):
    wanted = Searcher.open(pipeline, store).hits([QUERY])
    bare = document(models)
    del bare["data"]
    alone = shutil.copytree(store, tmp_path / "store")
    (alone / "config.yaml").unlink()
    for other, which in (
        (bare, "no data set says where"),
        (folder_document(models, pictures), "no data set has those"),
    ):
        assert Searcher.open(Pipeline.from_config(other), store).hits([QUERY]) == wanted
        searcher = Searcher.open(Pipeline.from_config(other), alone)
        with pytest.raises(ConfigError, match=f"search.last: looks at pictures, and {which}"):
            searcher.hits([QUERY])
        assert which in searcher.last_look_fault
        assert searcher.search([QUERY], last_look=False).ids


def test_the_model_is_loaded_when_it_looks_and_not_before(models, store):
    pipeline = Pipeline.from_config(document(models))
    Searcher.open(pipeline, store).search([QUERY], last_look=False)
    assert "reranker" not in vars(pipeline)
    other = Pipeline.from_config(document(models, candidates=2))
    assert other.identity()["image_config"] == pipeline.identity()["image_config"]


def test_the_section_is_a_component_like_any_other(models, tmp_path):
    config = load_config(document(models))
    assert load_config(config.as_dict()) == config
    assert config.as_dict()["search"]["last"]["batch_size"] == 4
    assert "last" not in load_config({**document(models), "search": {"last": None}}).as_dict()["search"]
    assert config_schema(default_registry())["properties"]["search"]["properties"]["last"]["anyOf"][1] == {
        "type": "null"
    }
    for last, says in (
        ({"name": "cross_encoder", "candidates": 4}, "search.last.model: is missing"),
        ({"name": "cross_encoder", "model": "x", "candidate": 4}, "search.last.candidate: unknown key. Did you mean"),
        ({"name": "cross_encoder", "model": "x", "candidates": 0}, "search.last.candidates: "),
        ({"name": "cross_encodr", "model": "x"}, "search.last.name: "),
        ({"model": "x"}, "search.last: expected a mapping with a name"),
    ):
        with pytest.raises(ConfigError) as caught:
            load_config({**document(models), "search": {"last": last}})
        assert says in str(caught.value)
    with pytest.raises(ConfigError, match=r"search.last.model: there is no file .*gone"):
        Pipeline.from_config(document(models, model=str(tmp_path / "gone")))


def test_another_reranker_begins_with_its_own_settings(models):
    other = ["search.last.name=yes_no", f"search.last.model={models / 'qwen3'}"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        config = load_config(document(models), other)
    assert config.last.spec.name == "yes_no"
    assert config.last.settings.candidates == 4
    with pytest.warns(UserWarning, match="leaves out what was set for cross_encoder: batch_size=7"):
        load_config(document(models, batch_size=7), other)

"""Specs to cells: the axes' arithmetic, honest rounding, and one line for every bad spec."""

import re

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from models.config import ARCHITECTURES, TrainingObjective
from models.count import count
from sweeps.errors import InputError
from sweeps.grid import expand, load
from sweeps.spec import read_spec

BASE = {"params": 1e5, "tokens": 1e5}


def sweep_of(*blocks, **top):
    spec = {"name": "test", "defaults": dict(BASE), "blocks": list(blocks)} | top
    return expand(read_spec(yaml.safe_dump(spec), "spec.yaml"), "spec.yaml")


def refusal(*blocks, **top) -> str:
    with pytest.raises(InputError) as caught:
        sweep_of(*blocks, **top)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_grids_multiply_zips_pair_blocks_follow():
    sweep = sweep_of(
        {"grid": {"batch": [4, 8]}, "zip": [{"lr": [1e-3, 2e-3, 3e-3], "beta2": [0.9, 0.95, 0.99]}, {"clip": [1, 2]}]},
        {"name": "second", "zip": {"lr": [0.01, 0.02]}, "seeds": [3, 7]},
    )
    assert len(sweep.cells) == 2 * 3 * 2 + 2 * 2
    pairs = {(config.optimizer.lr, config.optimizer.beta2) for config in sweep.configs[:12]}
    assert pairs == {(1e-3, 0.9), (2e-3, 0.95), (3e-3, 0.99)}
    assert [(cell.block, cell.seed) for cell in sweep.cells[12:]] == [("second", 3), ("second", 7)] * 2
    assert {cell.block for cell in sweep.cells[:12]} == {"blocks[0]"}
    assert len({config.run_id for config in sweep.configs}) == 16


def test_one_value_needs_no_list():
    assert (
        sweep_of({"grid": {"lr": {"rule": "width", "c": 0.1}, "domain": "installed"}}).configs[0].data.domain
        == "installed"
    )


def test_later_levels_override_and_void_the_other_way_of_saying_it():
    sweep = sweep_of(
        {"grid": {"batch_tokens": [4096], "width": [32], "depth": [3], "unique_tokens": ["0.5 N"]}},
        defaults=BASE | {"batch": 64, "context": 64, "epochs": 4, "lr": 0.1},
    )
    (config,) = sweep.configs
    n = count(config.model).nonembedding
    assert (config.batch, config.model.width, config.model.depth, config.optimizer.lr) == (64, 32, 3, 0.1)
    assert config.data.unique_tokens == round(n / 2)
    assert sweep_of({"defaults": {"batch": 3}}, defaults=BASE | {"batch_tokens": 999}).configs[0].batch == 3


@pytest.mark.parametrize("kind", ["total", "nonembedding", "active"])
def test_token_rules_speak_of_the_named_n_as_the_shape_has_it(kind):
    (config,) = sweep_of(
        {"grid": {"architecture": "top2", "tokens": "2.5 N^1.1", "params_kind": kind}}, defaults={"params": 300_000}
    ).configs
    wanted = 2.5 * count(config.model).of(kind) ** 1.1
    assert abs(config.tokens - wanted) <= config.batch_tokens / 2


@given(
    st.floats(1, 1e9),
    st.floats(1e-3, 1e5),
    st.integers(1, 512),
    st.sampled_from([16, 128, 1000]),
    st.floats(0, 0.99),
)
@settings(max_examples=150)
def test_lengths_are_rounded_honestly(tokens, epochs, batch, context, warmup):
    (cell,) = sweep_of(
        {"grid": {"tokens": tokens, "epochs": epochs, "batch": batch, "context": context, "warmup": warmup}}
    ).cells
    config = cell.config
    steps = max(1, round(tokens / (batch * context)))
    if config is None:
        assert steps * batch / epochs <= 0.5 and "less than one window" in str(cell.reason)
        return
    assert config.steps == steps and config.tokens == steps * batch * context
    # U fills whole windows, and R is off by no more than half a window's rounding.
    assert (config.data.unique_tokens - 1) % context == 0
    assert abs(config.windows - config.steps * batch / epochs) <= 0.5
    assert config.epochs == pytest.approx(config.steps * config.batch * context / (config.data.unique_tokens - 1))
    assert config.optimizer.warmup_steps < config.steps or config.optimizer.warmup_steps == 0
    assert abs(config.optimizer.warmup_steps - warmup * steps) <= 1


def test_filters_see_what_the_cell_has():
    axes = {"architecture": ["dense", "top2"], "params": [2e4, 1e5, 4e5], "tokens": ["0.1 N^0.74", "30 N^0.74"]}
    everything = sweep_of({"grid": axes}).cells
    kept = sweep_of({"grid": axes, "where": "u < 1 and N_active < 2e5 or experts == 8 and params > 3e5"}).cells
    expected = [
        config
        for config in (cell.config for cell in everything)
        if config
        and (
            (config.tokens / count(config.model).nonembedding ** 0.74 < 1 and count(config.model).active < 2e5)
            or (config.model.moe and count(config.model).nonembedding > 3e5)
        )
    ]
    assert [cell.config for cell in kept] == expected
    assert 0 < len(kept) < len(everything)


def test_extra_seeds_go_to_the_share_spread_evenly():
    axes = {"lr": [k / 1000 for k in range(1, 41)]}
    cells = sweep_of({"grid": axes, "seeds": 1, "extra_seeds": {"count": 2, "share": 0.15}}).cells
    by_lr = {}
    for cell in cells:
        by_lr.setdefault(cell.settings["lr"], []).append(cell.seed)
    assert sorted(map(len, by_lr.values())) == [1] * 34 + [3] * 6
    tripled = [index for index, seeds in enumerate(by_lr.values()) if seeds == [0, 1, 2]]
    assert max(b - a for a, b in zip(tripled, tripled[1:], strict=False)) <= 7
    half = sweep_of({"grid": axes, "extra_seeds": {"count": 1, "share": 0.5, "where": "lr <= 0.02"}}).cells
    assert [cell.settings["lr"] for cell in half if cell.seed == 1] == [k / 1000 for k in range(2, 21, 2)]


def test_what_cannot_be_built_is_a_cell_with_a_reason():
    sweep = sweep_of(
        {"grid": {"params_kind": "total", "tokenizer": ["bytes", "bpe:32000"]}},
        {"grid": {"width": 32, "depth": 1, "architecture": "switch_top1"}},
        {"grid": {"width": 32, "depth": 1, "heads": 3}},
        {"grid": {"epochs": 1e6}, "where": "D > 1"},
        {"grid": {"tokens": "1e9 N^3"}},
        {"grid": {"unique_tokens": 100}},
    )
    reasons = [cell.reason for cell in sweep.cells]
    assert reasons[0] is None and len(sweep.configs) == 1
    patterns = ["vocabulary of 32,000", "no mixture layer", "3 heads", "one window", "more than 1e", "one window"]
    for reason, pattern in zip(reasons[1:], patterns, strict=True):
        assert re.search(pattern, str(reason)), (reason, pattern)


def test_every_architecture_and_setting_arrives():
    given_values = {
        "activation": "swiglu", "tied": False, "qk_norm": True, "experts": 4, "domain": "installed",
        "tokenizer": "bpe:512",
        "context": 64, "batch": 4, "heldout_fraction": 0.2, "optimizer": "sgd", "lr": 0.5, "weight_decay": 0.01,
        "beta1": 0.8, "beta2": 0.9, "eps": 1e-6, "momentum": 0.5, "clip": 2.0, "warmup": 0.25, "schedule": "wsd",
        "final_lr_ratio": 0.0, "decay_fraction": 0.3, "probe_windows": 7, "probes_per_octave": 3, "keep": "final",
        "moe_every": 1, "objective": "masked", "mask_share": 0.3, "patch": 2, "forecast": True,
    }  # fmt: skip
    sweep = sweep_of({"grid": {"architecture": list(ARCHITECTURES)}}, defaults=BASE | given_values)
    for cell, name in zip(sweep.cells, ARCHITECTURES, strict=True):
        assert cell.config and cell.config.model.architecture == name and cell.config.model.vocab == 512
        if cell.config.model.moe:
            assert cell.config.model.moe.experts == 4 and cell.config.model.moe.every == 1
        assert cell.config.model.objective == TrainingObjective("masked", 0.3, None, 2, True)
        assert not cell.config.model.tied and cell.config.model.qk_norm and cell.config.model.activation == "swiglu"
        taken = {key: cell.values[key] for key in given_values.keys() - {"warmup", "experts", "moe_every"}}
        assert taken == {key: given_values[key] for key in taken}
        assert (
            cell.config.optimizer.schedule == "wsd" and cell.config.keep == "final" and cell.config.probe.windows == 7
        )
        assert cell.config.optimizer.warmup_steps == round(0.25 * cell.config.steps)


@pytest.mark.parametrize(
    ("block", "field", "words"),
    [
        ({"grid": {"learning_rate": [1]}}, "blocks[0].grid.learning_rate", "one of"),
        ({"grid": {"tokenizers": ["bytes"]}}, "blocks[0].grid.tokenizers", "did you mean 'tokenizer'"),
        ({"grid": {"lr": [0.1, "fast"]}}, "blocks[0].grid.lr[1]: got 'fast'", "number"),
        ({"grid": {"lr": [0.1, -1]}}, "blocks[0].grid.lr[1]: got -1", "greater than 0"),
        ({"grid": {"lr": {"rule": "parms", "c": 1}}}, "blocks[0].grid.lr[0].rule", "'params', 'width' or 'power'"),
        ({"grid": {"lr": {"rule": "width"}}}, "blocks[0].grid.lr[0].c: missing", "this field"),
        ({"grid": {"lr": {"rule": "width", "c": 1, "of": 2}}}, "blocks[0].grid.lr[0].of", "one of batch_tokens, c, p"),
        ({"grid": {"lr": {"rule": "power", "c": 1, "width": {"by": 1}}}}, "blocks[0].grid.lr[0].width.by", "at, p"),
        ({"grid": {"architecture": ["dense", "moe"]}}, "blocks[0].grid.architecture[1]", "switch_top1"),
        ({"grid": {"tokenizer": ["bpe:10"]}}, "blocks[0].grid.tokenizer[0]", "bpe:V"),
        ({"grid": {"tokens": ["20 M"]}}, "blocks[0].grid.tokens[0]", "20 N"),
        ({"grid": {"batch": []}}, "blocks[0].grid.batch", "at least one value"),
        ({"grid": {"batch": [None]}}, "blocks[0].grid.batch[0]", "integer"),
        ({"grid": {"batch": [True]}}, "blocks[0].grid.batch[0]", "truth value"),
        ({"zip": {"lr": [1, 2], "clip": [1]}}, "blocks[0].zip", "lists of equal length"),
        ({"zip": [{"lr": [1]}, {"lr": [2]}]}, "blocks[0]", "one axis only"),
        ({"grid": {"lr": [1]}, "zip": {"lr": [2]}}, "blocks[0]", "one axis only"),
        ({"grid": {"batch": [8], "batch_tokens": [99]}}, "blocks[0]: got 'batch, batch_tokens'", "not both"),
        ({"defaults": {"batch": 8, "batch_tokens": 99}}, "blocks[0].defaults", "not both"),
        ({"defaults": {"contxt": 8}}, "blocks[0].defaults.contxt", "did you mean 'context'"),
        ({"gird": {}}, "blocks[0].gird", "did you mean 'grid'"),
        ({"where": "N <"}, "blocks[0].where", "comparison"),
        ({"where": "open('x')"}, "blocks[0].where", "unknown function"),
        ({"where": "N > 1e12"}, "blocks[0].where", "leaves some"),
        ({"where": "tokens > 3"}, "blocks[0].where", "unknown name 'tokens'"),
        ({"seeds": 0}, "blocks[0].seeds", "greater than or equal to 1"),
        ({"seeds": []}, "blocks[0].seeds", "at least 1"),
        ({"seeds": [1, 1]}, "blocks[0].seeds", "differ"),
        ({"seeds": [1, -1]}, "blocks[0].seeds[1]: got -1", "greater than or equal to 0"),
        ({"seeds": [2**31 - 1], "extra_seeds": {"count": 1}}, "blocks[0].extra_seeds.count", "2^31"),
        ({"extra_seeds": {"count": 1, "shares": 1}}, "blocks[0].extra_seeds.shares", "did you mean 'share'"),
        ({"grid": {"lr": [0.1, 0.1]}}, "blocks[0]", "a run of its own"),
        ({"grid": {"lr": [1] * 400, "clip": [1] * 400}}, "blocks[0]", "at most 100,000"),
    ],
)  # fmt: skip
def test_bad_blocks_are_refused_in_one_line_naming_the_field(block, field, words):
    message = refusal(block)
    assert message.startswith(f"spec.yaml: {field}"), message
    assert words in message


def test_bad_tops_are_refused():
    assert "blocks: got '[]', expected" in refusal()
    assert "spec.yaml: nam: got 'x', expected a known key; did you mean 'name'?" in refusal({}, nam="x")
    assert "blocks[0].extra_seeds: got 3, expected a mapping" in refusal({"extra_seeds": 3})
    assert "spec.yaml: seeds: got 1" in refusal({}, seeds=1)
    assert "spec.yaml: defaults.lr: got 'x'" in refusal({}, defaults={"lr": "x"})
    assert "blocks[0].tokens: missing" in refusal({}, defaults={"params": 1e5})
    assert "blocks[0].params: missing" in refusal({}, defaults={"tokens": 1e5, "width": 32})


def test_the_same_run_twice_is_refused_naming_both_blocks():
    message = refusal({"name": "one"}, {"name": "two", "grid": {"params": [100_001]}})
    assert "two: got 'dense 64x2" in message and "a cell of one with params 100000" in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "a mapping with name"),
        ("- 1", "a mapping with name"),
        ("a: [", "well-formed YAML"),
        ("name: a\nname: b", "given twice"),
        ("name: !!python/object:os.system {}", "well-formed YAML"),
        ("name: 2001-99-99", "plain numbers"),
        ("name: !!timestamp x", "plain numbers"),
        ("name: " + "9" * 5000, "plain numbers"),
        ("[" * 1200, "YAML"),
        ("a: \t- x", "well-formed YAML"),
        ("name: \x00", "well-formed YAML"),
        ("name: x\nblocks: &a [*a]", "blocks"),
        ("name: x\nblocks:\n- grid: &b {lr: *b}", "grid.lr"),
        ("name: x\nblocks: [{grid: {1: [2]}}]", "blocks[0].grid"),
        ("? [1]\n: 2", "YAML"),
        ("name: x\nblocks: [{defaults: {context: 1" + "0" * 400 + "}}]", "about 1e400"),
    ],
)
def test_hostile_yaml_is_refused_in_one_line(text, words):
    with pytest.raises(InputError) as caught:
        expand(read_spec(text, "spec.yaml"), "spec.yaml")
    message = str(caught.value)
    assert words in message and "\n" not in message and len(message) < 800


FIELDS = st.sampled_from(
    "architecture params width depth heads lr tokens epochs batch batch_tokens tokenizer context warmup where seeds "
    "grid zip count share rule c p".split()
)
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 10**6), st.floats(), st.text(max_size=8),
    st.sampled_from(["20 N", "1e6", "bytes", "dense", "top2", "u < 1", "bpe:512", "width", "params"]),
)  # fmt: skip
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS | st.text(max_size=5), inner, max_size=3),
)
BLOCKS = st.fixed_dictionaries(
    {},
    optional={
        "name": st.text(max_size=3),
        "grid": st.dictionaries(
            FIELDS | st.text(max_size=3), SCALARS | st.lists(SCALARS, max_size=3) | TREES, max_size=3
        ),
        "zip": st.dictionaries(FIELDS | st.text(max_size=3), st.lists(SCALARS, max_size=2), max_size=2) | TREES,
        "where": st.sampled_from(["u < 1", "batch > 4", "N / 0 > 1"]) | SCALARS,
        "seeds": TREES,
        "extra_seeds": st.fixed_dictionaries({"count": SCALARS}, optional={"share": SCALARS, "where": SCALARS}) | TREES,
        "defaults": TREES,
    },
)


@given(st.fixed_dictionaries({"name": st.just("x"), "blocks": st.lists(BLOCKS, min_size=1, max_size=2)}) | TREES)
@settings(max_examples=150)
def test_any_tree_is_a_sweep_or_refused(tree):
    if isinstance(tree, dict) and "blocks" in tree:
        tree = tree | {"defaults": BASE}
    try:
        sweep = expand(read_spec(yaml.safe_dump(tree), "spec.yaml"), "spec.yaml")
    except InputError as error:
        assert "\n" not in str(error)
    else:
        assert all((cell.config is None) == (cell.reason is not None) for cell in sweep.cells)


@given(st.text(max_size=200) | st.text(alphabet="{}[]:,&*!|>-? \n\t'\"#%@`0aN~<", max_size=60))
@settings(max_examples=300)
def test_any_text_is_a_sweep_or_refused(text):
    with pytest.raises(InputError):
        read_spec(text, "spec.yaml")


def test_files_and_presets(tmp_path, monkeypatch):
    spec = tmp_path / "mine.yaml"
    spec.write_text(yaml.safe_dump({"name": "mine", "defaults": BASE, "blocks": [{}]}))
    assert load(spec).name == load(str(spec)).name == "mine"
    for bad in ("no-such", "../presets/quickstart", "a\0b", "x" * 5000, str(tmp_path)):
        with pytest.raises(InputError):
            load(bad)
    (tmp_path / "latin.yaml").write_bytes(b"name: \xff")
    with pytest.raises(InputError, match="UTF-8"):
        load(tmp_path / "latin.yaml")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quickstart").write_text(spec.read_text())
    assert load("quickstart").name == "mine"


def test_twins_are_two_runs_of_every_seed_on_disjoint_halves():
    sweep = sweep_of({"grid": {"twins": [False, True], "split_seed": 3}, "seeds": 2})
    assert [(config.seed, config.data.half) for config in sweep.configs] == [
        (0, None), (1, None), (0, "a"), (0, "b"), (1, "a"), (1, "b"),
    ]  # fmt: skip
    assert {config.data.split_seed for config in sweep.configs} == {3}
    one, other = sweep.configs[2:4]
    assert one.twin() == other and len({config.run_id for config in sweep.configs}) == 6
    assert [config.data.half for config in sweep_of({"grid": {"twins": [True]}, "where": "twins"}).configs] == [
        "a",
        "b",
    ]


def test_a_mixture_is_one_axis_value_whatever_the_way_it_is_written():
    values = [{"web": 1, "code": 3}, "0.75 code + 0.25 web", "web", "mixed"]
    names = [
        config.data.domain for config in sweep_of(*[{"grid": {"domain": [value]}} for value in values[1:]]).configs
    ]
    assert names == ["0.75 code + 0.25 web", "web", "mixed"]
    (config,) = sweep_of({"defaults": {"domain": values[0]}}).configs
    assert config.data.domain == names[0] and config.data.parts == ((0.75, "code"), (0.25, "web"))
    assert dict((name, share) for share, name in sweep_of({"grid": {"domain": "mixed"}}).configs[0].data.parts) == {
        "web": 0.5, "code": 0.25, "science": 0.25,
    }  # fmt: skip
    # Equal mixtures are one run, and a path with blanks and signs is no mixture.
    assert "is the same run" in refusal({"grid": {"domain": values[:2]}})
    odd = "text:/data/a + b"
    assert sweep_of({"grid": {"domain": odd}}).configs[0].data.parts == ((1.0, odd),)


@pytest.mark.parametrize("domain", [{}, {"web": 0}, {"web": -1, "code": 2}, {"web": "much"}, "0.5 web + 0.5 web"])
def test_other_mixtures_are_refused(domain):
    told = refusal({"grid": {"domain": [domain]}})
    assert "domain" in told and ("shares" in told)


def test_draws_are_runs_on_other_text_with_other_seeds():
    sweep = sweep_of({"defaults": {"draws": 3, "twins": True}, "grid": {"lr": [1e-3, 2e-3]}, "seeds": [0, 4]})
    assert len(sweep.configs) == 2 * 3 * 2 * 2
    one = [config for config in sweep.configs if config.optimizer.lr == 1e-3 and config.data.half == "a"]
    assert sorted({config.data.draw for config in one}) == [0, 1, 2] and len({config.seed for config in one}) == 6
    assert [config.seed for config in one if config.data.draw == 0] == [0, 4]
    pairs = {(config.seed, config.data.draw) for config in sweep.configs if config.data.half == "b"}
    assert pairs >= {(config.seed, config.data.draw) for config in one}
    single = sweep_of({"grid": {"lr": [1e-3, 2e-3]}, "seeds": [0, 4], "defaults": {"twins": True}})
    assert {config.run_id for config in single.configs} <= {config.run_id for config in sweep.configs}


def test_as_many_draws_as_are_wanted():
    block = {"defaults": {"draws": {"se": 0.01, "most": 9}}, "grid": {"lr": [1e-3, 2e-3]}}
    spec = read_spec(yaml.safe_dump({"name": "test", "defaults": dict(BASE), "blocks": [block]}), "spec.yaml")
    asked = []

    def draws_of(run, wanted):
        asked.append((run.optimizer.lr, wanted.se, wanted.most))
        return 2 if run.optimizer.lr == 1e-3 else 7

    counts = [config.optimizer.lr for config in expand(spec, "spec.yaml", draws_of).configs]
    assert asked == [(1e-3, 0.01, 9), (2e-3, 0.01, 9)] and [counts.count(lr) for lr in (1e-3, 2e-3)] == [2, 7]
    assert len(expand(spec, "spec.yaml").configs) == 2 * 8  # before anything is known of their spread


@pytest.mark.parametrize(
    "draws", [0, -1, 1.5, True, {"se": 0.1}, {"most": 4}, {"se": 0, "most": 4}, {"se": 1, "detect": "law", "most": 4},
              {"detect": "gap174", "most": 4}, {"sd": 1, "most": 4}],
)  # fmt: skip
def test_draws_that_say_no_number_are_refused(draws):
    assert "draws" in refusal({"defaults": {"draws": draws}})


@pytest.mark.slow
def test_a_million_draws_are_too_many_cells():
    assert "100,000" in refusal({"defaults": {"draws": 60_000}, "grid": {"lr": [1e-3, 2e-3]}})

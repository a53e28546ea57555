import json
import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy.special import erf
from scipy.stats import ortho_group

from abi.base.files import sha256_tensors
from abi.base.typed import seal_of
from abi.models.load import load_module
from abi.models.module import (
    CONFIG,
    WEIGHTS,
    AbiModule,
    ModuleConfig,
    permute_domain_net,
    read_module,
    read_original,
    save_module,
    set_domain_net,
    without_domain_net,
)

ONE, SIX = ModuleConfig(8, (2,), 6), ModuleConfig(8, (0, 1, 2), 10, expansion=2, tap_norms=True)
SHAPES = {
    "one tap": ONE,
    "taps with norms": SIX,
    "taps without norms": ModuleConfig(8, (0, 2), 7),
    "no net": without_domain_net(SIX),
}
DOMAIN = {
    f"domain.{part}" for part in ("net.0.weight", "net.0.bias", "net.2.weight", "net.2.bias", "ln.weight", "ln.bias")
}
INTERFACE = {"proj_in.weight", "abi_ln.weight", "abi_ln.bias", "proj_out.weight"}


def rotation(width, seed=0):
    return torch.from_numpy(ortho_group.rvs(width, random_state=seed)).float()


def trained(config, seed=0):
    """A module whose every parameter differs from its initialisation."""
    module = AbiModule(config, seed)
    rng = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=rng)
    return module.requires_grad_(False)


def taps_for(config, seed=9):
    return torch.randn(2, 5, len(config.taps), config.width, generator=torch.Generator().manual_seed(seed)) * 3 + 1


def layer_norm(x, p, name):
    mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(var + 1e-5) * p[f"{name}.weight"] + p[f"{name}.bias"]


def by_hand(module, taps, rotated=None):
    """The correction of a module in float64, from docs/experiments.md, section 0."""
    p = {name: value.double().numpy() for name, value in module.state_dict().items()}
    x = taps.double().numpy()
    if module.config.tap_norms:
        x = np.stack([layer_norm(x[..., k, :], p, f"tap_lns.{k}") for k in range(x.shape[-2])], axis=-2)
    h = layer_norm(x.reshape(*x.shape[:-2], -1) @ p["proj_in.weight"].T, p, "abi_ln")
    if module.config.domain_net:
        r = np.eye(h.shape[-1]) if rotated is None else rotated.double().numpy()
        hidden = h @ r @ p["domain.net.0.weight"].T + p["domain.net.0.bias"]
        out = hidden * 0.5 * (1 + erf(hidden / math.sqrt(2))) @ p["domain.net.2.weight"].T + p["domain.net.2.bias"]
        h = h + p["domain_alpha"] * layer_norm(out, p, "domain.ln") @ r.T
    return h @ p["proj_out.weight"].T


@pytest.mark.parametrize("config", SHAPES.values(), ids=SHAPES)
def test_a_correction_is_that_of_a_numpy_module(config):
    module, taps = trained(config), taps_for(config)
    np.testing.assert_allclose(module(taps).numpy(), by_hand(module, taps), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("config", [ONE, SIX])
def test_a_rotated_net_is_the_conjugated_function(config):
    module, taps, r = trained(config), taps_for(config), rotation(config.d_abi)
    module.set_rotation(r)
    np.testing.assert_allclose(module(taps).numpy(), by_hand(module, taps, r), rtol=1e-5, atol=1e-5)
    x = torch.randn(20, config.d_abi)
    alone = (module.abi_state(taps) - module.interface_state(taps)) / module.domain_alpha
    torch.testing.assert_close(alone, module.domain(module.interface_state(taps) @ r) @ r.T, rtol=1e-5, atol=1e-5)
    assert (module.domain(x @ r) @ r.T - module.domain(x)).norm() > 0.1 * module.domain(x).norm()


def test_a_rotation_leaves_the_net_bit_identical():
    module = trained(ONE)
    before = sha256_tensors(module.domain_parameters())
    module.set_rotation(rotation(6))
    assert sha256_tensors(module.domain_parameters()) == before


def test_the_identity_rotation_changes_nothing():
    module, taps = trained(SIX), taps_for(SIX)
    plain = module(taps)
    module.set_rotation(torch.eye(10))
    assert torch.equal(module(taps), plain)


def test_alpha_zero_switches_the_net_off():
    module, taps = trained(ONE), taps_for(ONE)
    module.domain_alpha.zero_()
    torch.testing.assert_close(module.abi_state(taps), module.interface_state(taps))


@pytest.mark.parametrize("config", SHAPES.values(), ids=SHAPES)
def test_parameter_names_are_the_originals(config):
    norms = (
        {f"tap_lns.{k}.{part}" for k in range(len(config.taps)) for part in ("weight", "bias")}
        if config.tap_norms
        else set()
    )
    names = set(dict(AbiModule(config).named_parameters()))
    assert names == {"domain_alpha"} | INTERFACE | norms | (DOMAIN if config.domain_net else set())


def test_sizes_are_those_of_the_record():
    count = {d: sum(p.numel() for p in AbiModule(ModuleConfig(1024, (24,), d)).parameters()) for d in (256, 512)}
    assert count == {256: 1_050_881, 512: 3_150_337}


def test_a_module_is_interface_and_domain_net_and_nothing_else():
    module = AbiModule(SIX)
    interface, domain = module.interface_parameters(), module.domain_parameters()
    assert set(domain) == DOMAIN | {"domain_alpha"}
    assert set(interface) | set(domain) == set(dict(module.named_parameters()))
    assert not set(interface) & set(domain)


def test_a_seed_gives_one_module_and_leaves_the_global_generator_alone(monkeypatch):
    # what draws on a card is not in these tests, but that it would be seeded anew is seen
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda _: pytest.fail("a module seeds every card"))
    state = torch.get_rng_state()
    AbiModule(ONE, seed=5)
    assert torch.equal(torch.get_rng_state(), state)
    monkeypatch.undo()
    torch.manual_seed(3)
    first, drawn = AbiModule(ONE, seed=5).state_dict(), torch.rand(1)
    torch.manual_seed(3)
    assert torch.equal(torch.rand(1), drawn)
    again, other = AbiModule(ONE, seed=5).state_dict(), AbiModule(ONE, seed=6).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["proj_in.weight"], other["proj_in.weight"])


@pytest.mark.parametrize(("d_abi", "taps"), [(0, (1,)), (9, (1,)), (25, (0, 1, 2)), (-1, (1,)), (1, ())])
def test_more_dimensions_than_the_taps_give_are_refused(d_abi, taps, refuses):
    with refuses(f"d_abi {d_abi} must be 1 to {8 * len(taps)}"):
        ModuleConfig(8, taps, d_abi)


BACKBONES = {
    "t5": (
        "t5.encoder.block.5.layer.0.weight",
        "t5.decoder.block.1.layer.0.SelfAttention.q.weight",
        "t5.lm_head.weight",
    ),
    "halves": ("encoder.block.7.layer.0.weight", "decoder.block.1.layer.2.wi.weight", "lm_head.weight"),
    "causal": ("backbone.transformer.h.0.attn.weight", "backbone.transformer.h.1.attn.weight", "lm_head.weight"),
    "none": (),
}


def original(config, backbone="t5"):
    """A checkpoint as the original writes it: named and shaped by hand, among the tensors of its backbone."""
    rng, a, hidden = torch.Generator().manual_seed(2), config.d_abi, config.expansion * config.d_abi
    shapes = {"domain_alpha": (1,), "proj_in.weight": (a, config.width * len(config.taps)), "abi_ln.weight": (a,),
              "abi_ln.bias": (a,), "proj_out.weight": (config.width, a), "domain.net.0.weight": (hidden, a),
              "domain.net.0.bias": (hidden,), "domain.net.2.weight": (a, hidden), "domain.net.2.bias": (a,),
              "domain.ln.weight": (a,), "domain.ln.bias": (a,)}  # fmt: skip
    for k in range(len(config.taps)) if config.tap_norms else ():
        shapes |= {f"tap_lns.{k}.weight": (config.width,), f"tap_lns.{k}.bias": (config.width,)}
    own = {name: torch.randn(shape, generator=rng) for name, shape in shapes.items()}
    return {**{name: torch.ones(3) for name in BACKBONES[backbone]}, **own}


def of_original(tensors, config):
    """The correction of a checkpoint of the original in float64, by its formulas."""
    p = {name: value.double().numpy() for name, value in tensors.items()}
    x = taps_for(config).double().numpy()
    if config.tap_norms:
        x = np.stack([layer_norm(x[..., k, :], p, f"tap_lns.{k}") for k in range(x.shape[-2])], axis=-2)
    h = layer_norm(x.reshape(*x.shape[:-2], -1) @ p["proj_in.weight"].T, p, "abi_ln")
    hidden = h @ p["domain.net.0.weight"].T + p["domain.net.0.bias"]
    out = hidden * 0.5 * (1 + erf(hidden / math.sqrt(2))) @ p["domain.net.2.weight"].T + p["domain.net.2.bias"]
    return (h + p["domain_alpha"][0] * layer_norm(out, p, "domain.ln")) @ p["proj_out.weight"].T


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("config", [ONE, SIX, SHAPES["taps without norms"]])
def test_a_checkpoint_of_the_original_loads_as_it_is(config, backbone):
    tensors = original(config, backbone)
    module = read_original(tensors, config.taps)
    assert module.config == config
    np.testing.assert_allclose(
        module(taps_for(config)).detach().numpy(), of_original(tensors, config), rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize("backbone", ["t5", "halves", "causal"])
def test_a_file_of_the_original_with_its_backbone_says_itself_what_it_reads(tmp_path, backbone):
    save_file(original(ONE, backbone), tmp_path / "net.safetensors")
    module, about = load_module(tmp_path / "net.safetensors")
    assert about is None
    assert module.config == ONE  # two blocks: the final state is tap 2
    np.testing.assert_allclose(
        module(taps_for(ONE)).detach().numpy(), of_original(original(ONE), ONE), rtol=1e-3, atol=1e-4
    )


def test_a_file_of_the_original_is_told_what_it_reads_where_it_does_not_say(tmp_path, refuses):
    for name, config, backbone in (("bare", ONE, "none"), ("six", SIX, "t5")):
        save_file(original(config, backbone), tmp_path / f"{name}.safetensors")
        with refuses(
            f"{name}.safetensors: does not say which hidden states it reads; give {len(config.taps)} as `taps`"
        ):
            load_module(tmp_path / f"{name}.safetensors")
        assert load_module(tmp_path / f"{name}.safetensors", config.taps)[0].config == config


def test_nothing_is_unpickled(tmp_path, refuses):
    torch.save(original(ONE), tmp_path / "net.pt")
    with refuses("net.pt: is no safetensors file, and abi unpickles nothing; convert the checkpoint first"):
        load_module(tmp_path / "net.pt")


def test_a_folder_of_ours_is_loaded_with_its_manifest(folder):
    module, about = load_module(folder)
    assert (module.config, about.role) == (ONE, "arm")
    assert not any(parameter.requires_grad for parameter in module.parameters())


def test_a_module_that_was_saved_in_bf16_is_read_in_fp32(tmp_path, facts, refuses):
    module = AbiModule(ONE, 1).to(torch.bfloat16)
    digest = save_module(module, tmp_path / "half", facts)
    found, about = load_module(tmp_path / "half")
    assert about.sha256 == digest
    for name, tensor in found.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, module.state_dict()[name].float())
    turned = AbiModule(ONE, 1)
    turned.set_rotation(rotation(ONE.d_abi))
    save_module(turned.to(torch.bfloat16), tmp_path / "turned", facts)
    with refuses("is not an orthogonal matrix of width 6; bfloat16 has rounded it, so save the module in float32"):
        load_module(tmp_path / "turned")


@pytest.mark.parametrize("name", ["proj_in.weight", "domain.net.0.weight", "proj_out.weight", "domain_alpha"])
def test_a_checkpoint_without_a_module_is_refused(name, refuses):
    tensors = original(ONE)
    del tensors[name]
    with refuses(f"checkpoint: .*{name}"):
        read_original(tensors, (2,))


@pytest.mark.parametrize("damaged", [torch.zeros(8), torch.zeros(0, 8), torch.zeros(8, 0), torch.zeros(())])
@pytest.mark.parametrize("name", ["proj_in.weight", "domain.net.0.weight", "proj_out.weight"])
def test_a_checkpoint_whose_tensors_have_no_shape_of_a_module_is_refused(name, damaged, refuses):
    with refuses(f"checkpoint: holds no matrix {name}; it is no ABI module of the original"):
        read_original({**original(ONE), name: damaged}, (2,))


def test_a_checkpoint_read_with_the_wrong_taps_is_refused(refuses):
    with refuses("it is no module of this shape"):
        read_original(original(ModuleConfig(8, (1, 2), 6)), (2,))


@pytest.fixture(params=[*SHAPES, "rotated"])
def saved(request, tmp_path, facts):
    module = trained(SHAPES.get(request.param, SIX))
    if request.param == "rotated":
        module.set_rotation(rotation(10))
    save_module(module, tmp_path / "m", facts)
    return module, tmp_path / "m"


def test_a_saved_module_loads_bit_identical(saved, facts):
    module, folder = saved
    again, about = read_module(folder)
    assert again.config == module.config
    assert all(torch.equal(again.state_dict()[name], tensor) for name, tensor in module.state_dict().items())
    assert torch.equal(again(taps_for(module.config)), module(taps_for(module.config)))
    assert {key: getattr(about, key) for key, _ in facts} == dict(facts)


def test_a_module_is_saved_as_the_same_bytes_twice(saved, facts, tmp_path):
    module, folder = saved
    save_module(module, tmp_path / "again", facts)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == {
        p.name: p.read_bytes() for p in (tmp_path / "again").iterdir()
    }
    assert sorted(p.name for p in folder.iterdir()) == ["README.md", CONFIG, WEIGHTS]


@pytest.fixture
def folder(tmp_path, facts):
    save_module(trained(ONE), tmp_path / "m", facts)
    return tmp_path / "m"


def edited(folder, change):
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / WEIGHTS)


@pytest.mark.parametrize("name", sorted(DOMAIN | INTERFACE | {"domain_alpha"}))
def test_a_missing_tensor_is_named(folder, name, refuses):
    edited(folder, lambda tensors: tensors.pop(name))
    with refuses(f"missing tensors .'{name}'., unknown tensors"):
        read_module(folder)


@pytest.mark.parametrize("name", ["gate", "tap_lns.0.weight", "domains.sql.ln.bias"])
def test_an_extra_tensor_is_named(folder, name, refuses):
    edited(folder, lambda tensors: tensors.update({name: torch.ones(6)}))
    with refuses(f"unknown tensors .'{name}'.; it is no module of this shape"):
        read_module(folder)


@pytest.mark.parametrize("name", ["t5.weight", "decoder.weight"])
def test_an_extra_tensor_of_a_backbone_in_our_own_file_is_named(folder, name, refuses):
    edited(folder, lambda tensors: tensors.update({name: torch.ones(6)}))
    with refuses(name):
        read_module(folder)


@pytest.mark.parametrize("name", ["proj_in.weight", "domain.net.2.bias", "domain_alpha", "rotation"])
def test_a_tensor_of_another_shape_is_named(folder, name, refuses):
    edited(folder, lambda tensors: tensors.update({name: torch.ones(5, 2)}))
    with refuses(f"{name} is .5, 2., not"):
        read_module(folder)


def test_every_flipped_byte_of_the_weights_is_noticed(folder, refuses):
    path = folder / WEIGHTS
    content = path.read_bytes()
    for at in [*range(0, len(content), 61), len(content) - 1]:
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        with refuses("m/"):
            read_module(folder)


def rewrite(folder, **change):
    document = json.loads((folder / CONFIG).read_text())
    changed = document | change
    (folder / CONFIG).write_text(json.dumps(changed | {"seal": seal_of(changed)}))


def test_weights_that_are_not_those_of_the_config_are_refused(folder, refuses):
    rewrite(folder, sha256="0" * 64)
    with refuses(f"does not match the hash in {CONFIG}"):
        read_module(folder)


def test_a_rotated_module_whose_config_says_otherwise_is_refused(tmp_path, facts, refuses):
    module = trained(ONE)
    module.set_rotation(rotation(6))
    save_module(module, tmp_path / "m", facts)
    rewrite(tmp_path / "m", rotated=False)
    with refuses(CONFIG):
        read_module(tmp_path / "m")


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [("taps", [0, 2], "proj_in.weight"), ("d_abi", 99, "d_abi 99 must be"), ("width", "8", "module.width")],
)
def test_a_config_of_another_shape_is_refused(folder, key, value, words, refuses):
    document = json.loads((folder / CONFIG).read_text())
    rewrite(folder, module=document["module"] | {key: value})
    with refuses(words):
        read_module(folder)


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
@pytest.mark.parametrize("content", [None, b"", b"{", b"\xff" * 40])
def test_a_missing_or_damaged_file_is_refused(folder, name, content, refuses):
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content)
    with refuses(name):
        read_module(folder)


def test_a_moved_net_is_bit_identical_and_the_interface_untouched():
    module, source = trained(ONE, 1), trained(ONE, 2)
    interface = {name: p.clone() for name, p in module.interface_parameters().items()}
    set_domain_net(module, source)
    assert sha256_tensors(module.domain_parameters()) == sha256_tensors(source.domain_parameters())
    assert all(torch.equal(module.state_dict()[name], p) for name, p in interface.items())


@pytest.mark.parametrize("other", [ModuleConfig(8, (2,), 5), ModuleConfig(8, (2,), 6, expansion=2)])
def test_a_net_of_another_shape_is_refused(other, refuses):
    with refuses("in the source and .* in the target; use equal d_abi"):
        set_domain_net(AbiModule(ONE), AbiModule(other))


def test_a_permuted_net_has_the_same_weights_and_another_function():
    module, source = trained(ONE), trained(ONE)
    permute_domain_net(module, 0)
    x = torch.randn(50, 6)
    for name, parameter in module.domain_parameters().items():
        assert torch.equal(parameter.flatten().sort().values, source.domain_parameters()[name].flatten().sort().values)
    assert (module.domain(x) - source.domain(x)).norm() > 0.5 * source.domain(x).norm()


def test_a_permutation_keeps_rows_and_columns_together():
    module, source = trained(ONE), trained(ONE)
    permute_domain_net(module, 0)
    rows = [sorted(map(tuple, m.domain.net[0].weight.sort(dim=1).values.tolist())) for m in (module, source)]
    assert rows[0] == rows[1]


def test_a_state_dict_carries_the_rotation():
    module, copy = trained(ONE), AbiModule(ONE)
    module.set_rotation(rotation(6))
    copy.load_state_dict(module.state_dict())
    assert torch.equal(copy(taps_for(ONE)), module(taps_for(ONE)))


@pytest.mark.parametrize("wrong", [torch.tensor(2.0), torch.ones(6), torch.ones(6, 6)])
def test_what_is_no_rotation_is_refused(wrong, refuses):
    with refuses("rotation"):
        AbiModule(ONE).requires_grad_(False).set_rotation(wrong)


def test_the_interface_of_a_seed_does_not_depend_on_the_net():
    module, bare = AbiModule(ONE, seed=5), AbiModule(without_domain_net(ONE), seed=5)
    assert torch.equal(module.proj_in.weight, bare.proj_in.weight)
    assert torch.equal(module.proj_out.weight, bare.proj_out.weight)


def test_half_precision_tensors_of_a_checkpoint_are_read_as_float():
    tensors = {name: tensor.half() for name, tensor in original(ONE).items()}
    assert read_original(tensors, (2,)).proj_in.weight.dtype == torch.float32

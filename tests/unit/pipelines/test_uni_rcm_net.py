"""One direction of Uni-RCM: its size, what reaches what, and what each choice changes."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.uni_rcm_net import Direction, DirectionConfig, Interaction, Modulation, ReferenceBlock, positions

SHAPE = (5, 7)
NO_PROGRAM = torch.zeros(2, dtype=torch.int64)


def direction(**choices: object) -> Direction:
    torch.manual_seed(0)
    return Direction(DirectionConfig(4, 3, SHAPE, **{"d": 16, "blocks": 2, **choices})).eval()  # type: ignore[arg-type]


def cells(seed: int = 0) -> Tensor:
    return torch.randn(2, *SHAPE, 4, generator=torch.Generator().manual_seed(seed))


def size(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def test_the_published_sizes() -> None:
    """12.3 M a net, 24.7 M in all: 1.6 M of each is its reference."""
    with torch.device("meta"):
        there = Direction(DirectionConfig(768, 1152, (56, 56)))
        back = Direction(DirectionConfig(1152, 768, (56, 56)))
    assert (size(there), size(back)) == (12_335_235, 12_334_851)
    assert there.reference is not None
    assert there.reference.numel() == 56 * 56 * 512


def test_every_place_has_its_own_position() -> None:
    place = positions(SHAPE, 16)[0]
    assert place.shape == (*SHAPE, 16)
    assert torch.pdist(place.flatten(0, 1)).min() > 0.1
    assert torch.equal(place[2, :, :8], place[2, :1, :8].expand(7, 8))  # across: the same along a row
    assert torch.equal(place[:, 3, 8:], place[:1, 3, 8:].expand(5, 8))
    with pytest.raises(ValueError, match="multiple of 4, got 18"):
        positions(SHAPE, 18)


@pytest.mark.parametrize(("branch", "reach"), [("both", 2), ("rfi", 2), ("ram", 0)])
def test_a_cell_reaches_its_neighbours_only_through_the_convolutions(branch: str, reach: int) -> None:
    net = direction(branch=branch)
    other = cells()
    other[0, 2, 3] += 1.0
    with torch.no_grad():
        moved = (net(cells(), NO_PROGRAM) - net(other, NO_PROGRAM)).abs().amax(-1) > 1e-6
    rows, columns = torch.where(moved[0])
    assert moved[0, 2, 3]
    assert not moved[1].any()
    assert int((rows - 2).abs().max()) <= reach
    assert int((columns - 3).abs().max()) == reach


def test_no_way_leads_round_the_gates() -> None:
    block = ReferenceBlock(DirectionConfig(4, 3, SHAPE, d=16))
    assert block.interaction is not None
    assert block.modulation is not None
    r = torch.randn(1, *SHAPE, 16)
    f = torch.randn(2, 1, *SHAPE, 16)
    block.eval()
    with torch.no_grad():
        assert (block(f[0], r) - block(f[1], r)).abs().max() > 1e-3
        for out in (block.interaction.out, block.modulation.out):
            out.weight.zero_()
        assert torch.equal(block(f[0], r), block(f[1], r))


def test_the_reference_is_passed_on_by_one_branch_and_the_feature_by_the_other() -> None:
    torch.manual_seed(0)
    interaction, modulation = Interaction(16, "group"), Modulation(16)
    f, r, nothing = torch.randn(1, *SHAPE, 16), torch.randn(1, *SHAPE, 16), torch.zeros(1, *SHAPE, 16)
    with torch.no_grad():
        interaction.value.bias.zero_()
        at_rest = interaction(f, nothing)
        assert torch.allclose(at_rest, interaction(-f, nothing), atol=1e-6)  # no reference: the feature says nothing
        assert torch.allclose(modulation(nothing, r), modulation.out.bias.expand(1, *SHAPE, 16), atol=1e-6)
        gate = torch.sigmoid(modulation.gate(F.gelu(modulation.joint(torch.cat([f, r], -1)))))
        assert torch.allclose(modulation(f, r), modulation.out(gate * f), atol=1e-5)
        gate = torch.sigmoid(interaction.query(f) * interaction.key(r) / 4.0)
        told = interaction.conv((gate * interaction.value(r)).permute(0, 3, 1, 2))
        assert torch.allclose(
            interaction(f, r), interaction.out(interaction.norm(told).permute(0, 2, 3, 1)), atol=1e-5
        )


def test_both_branches_count_the_same_at_first() -> None:
    block = ReferenceBlock(DirectionConfig(4, 3, SHAPE, d=16)).eval()
    assert block.interaction is not None
    assert block.modulation is not None
    assert block.mix is not None
    f, r = torch.randn(2, *SHAPE, 16), torch.randn(1, *SHAPE, 16)
    with torch.no_grad():
        nf, nr = block.norm_f(f), block.norm_r(r)
        c = 0.5 * block.interaction(nf, nr) + 0.5 * block.modulation(nf, nr)
        assert torch.allclose(block(f, r), c + block.ffn(c), atol=1e-5)
        block.mix.fill_(20.0)
        c = block.interaction(nf, nr)
        assert torch.allclose(block(f, r), c + block.ffn(c), atol=1e-5)


def test_a_net_without_a_reference_has_none_to_learn() -> None:
    learnt, zeros = direction(), direction(reference="zeros")
    assert size(learnt) - size(zeros) == 5 * 7 * 16
    assert "reference" not in dict(zeros.named_parameters())
    with torch.no_grad():
        before = learnt(cells(), NO_PROGRAM)
        assert learnt.reference is not None
        learnt.reference.add_(1.0 * torch.randn_like(learnt.reference))
        assert (learnt(cells(), NO_PROGRAM) - before).abs().max() > 1e-3


def test_one_branch_leaves_the_other_out() -> None:
    both, rfi, ram = (size(direction(branch=branch)) for branch in ("both", "rfi", "ram"))
    head = size(direction(blocks=0))
    shared = 2 * (4 * 16 + 2 * 16 + 16 * 32 + 32 + 32 * 16 + 16)  # of two blocks: three LayerNorms, FFN
    assert (rfi - head - shared) + (ram - head - shared) + 2 == both - head - shared


def test_group_norm_does_not_look_at_the_other_seams() -> None:
    for norm, alone in (("batch", False), ("group", True)):
        net = direction(norm=norm).train()
        with torch.no_grad():
            in_company = net(cells(), NO_PROGRAM)[:1]
            by_itself = net(cells()[:1], NO_PROGRAM[:1])
        assert torch.allclose(in_company, by_itself, atol=1e-5) == alone


def test_the_program_matters_only_where_the_net_is_told_it() -> None:
    for programs, matters in ((0, False), (3, True)):
        net = direction(programs=programs)
        with torch.no_grad():
            if net.program is not None:
                net.program.weight.normal_()
            same = torch.allclose(net(cells(), NO_PROGRAM), net(cells(), NO_PROGRAM + 2), atol=1e-5)
        assert same != matters

"""Where the weights of rnnfast.torch's modules lie, and who may move or change them."""

from __future__ import annotations

import copy
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="rnnfast.torch needs torch")

import rnnfast.torch as bridge  # noqa: E402


def agree(ours: Any, x: Any) -> bool:
    """Whether outputs and gradients are what PyTorch computes with the parameters as they are."""
    stock = bridge_to_stock(ours)
    mine, theirs = ours(x)[0], stock(x)[0]
    weights = [getattr(ours, name) for name in ours._flat_weights_names]
    their_weights = [getattr(stock, name) for name in ours._flat_weights_names]
    dy = torch.randn_like(mine)
    one = torch.autograd.grad(mine, weights, dy)
    other = torch.autograd.grad(theirs, their_weights, dy)
    return all(
        torch.allclose(a, b, rtol=0, atol=1e-5 * float(b.detach().abs().max()))
        for a, b in zip((mine, *one), (theirs, *other), strict=True)
    )


def bridge_to_stock(ours: Any) -> Any:
    stock = torch.nn.LSTM(ours.input_size, ours.hidden_size)
    with torch.no_grad():
        for name in ours._flat_weights_names:
            getattr(stock, name).copy_(getattr(ours, name))
    return stock


def in_one_buffer(module: Any) -> bool:
    pointers = {p.untyped_storage().data_ptr() for p in module.parameters()}
    return len(pointers) == 1


@pytest.fixture
def x() -> Any:
    return torch.randn(5, 3, 8)


@pytest.fixture
def lstm() -> Any:
    return bridge.LSTM(8, 8)


def test_they_are_in_one_buffer(lstm: Any, x: Any) -> None:
    parameters = list(lstm.parameters())
    assert in_one_buffer(lstm) and agree(lstm, x)
    assert in_one_buffer(lstm.double()) and in_one_buffer(lstm.float()) and agree(lstm, x)
    assert all(a is b for a, b in zip(lstm.parameters(), parameters, strict=True))
    twin = copy.deepcopy(lstm)
    assert agree(twin, x) and in_one_buffer(twin)


def changed_in_place(lstm: Any) -> None:
    with torch.no_grad():
        lstm.weight_hh_l0.mul_(1.5)


def given_other_data(lstm: Any) -> None:
    lstm.weight_hh_l0.data = torch.randn(32, 8)


def given_columns_for_rows(lstm: Any) -> None:
    square = torch.nn.Parameter(torch.randn(8, 32).t())
    lstm.weight_hh_l0 = square


def loaded_by_assignment(lstm: Any) -> None:
    lstm.load_state_dict(torch.nn.LSTM(8, 8).state_dict(), assign=True)


def shared_between_processes(lstm: Any) -> None:
    lstm.share_memory()
    assert all(p.is_shared() for p in lstm.parameters())


def observed(lstm: Any) -> None:
    given_other_data(lstm)
    lstm.observer = lstm.weight_hh_l0.data


def emptied_and_filled(lstm: Any) -> None:
    lstm.to("meta").to_empty(device="cpu")
    for p in lstm.parameters():
        torch.nn.init.normal_(p, std=0.3)


@pytest.mark.parametrize(
    "change",
    [
        changed_in_place,
        given_other_data,
        given_columns_for_rows,
        loaded_by_assignment,
        shared_between_processes,
        observed,
        emptied_and_filled,
    ],
)
def test_results_are_those_of_the_parameters_as_they_are(change: Any, lstm: Any, x: Any) -> None:
    assert agree(lstm, x)
    change(lstm)
    assert agree(lstm, x) and agree(lstm, x)


def test_a_square_weight_that_is_transposed_where_it_lies(x: Any) -> None:
    rnn = bridge.RNN(8, 8)
    with torch.no_grad():
        before = rnn(x)[0]
        rnn.weight_hh_l0.data = rnn.weight_hh_l0.data.t()
        stock = torch.nn.RNN(8, 8)
        stock.load_state_dict(rnn.state_dict())
        torch.testing.assert_close(rnn(x)[0], stock(x)[0])
        assert not torch.equal(rnn(x)[0], before)


def test_weights_that_others_see_stay_where_they_are(lstm: Any, x: Any) -> None:
    observed(lstm)
    lstm(x)
    with torch.no_grad():
        lstm.observer.zero_()
    assert not lstm.weight_hh_l0.any() and agree(lstm, x)


def test_functional_call(lstm: Any, x: Any) -> None:
    other = torch.nn.LSTM(8, 8)
    mine = torch.func.functional_call(lstm, dict(other.named_parameters()), (x,))[0]
    torch.testing.assert_close(mine, other(x)[0])
    mine.sum().backward()
    assert all(p.grad is not None for p in other.parameters())
    assert all(p.grad is None for p in lstm.parameters())


def test_an_optimizer_trains_as_with_pytorch(lstm: Any, x: Any) -> None:
    stock = torch.nn.LSTM(8, 8)
    stock.load_state_dict(lstm.state_dict())
    for module in (lstm, stock):
        optimizer = torch.optim.Adam(module.parameters(), 0.01)
        for _ in range(5):
            optimizer.zero_grad()
            module(x)[0].square().sum().backward()
            optimizer.step()
    for one, other in zip(lstm.parameters(), stock.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


def test_gradients_are_for_those_that_want_them(lstm: Any, x: Any) -> None:
    lstm.weight_ih_l0.requires_grad_(False)
    lstm.bias_hh_l0.requires_grad_(False)
    lstm(x)[0].sum().backward()
    given = {name: p.grad is not None for name, p in lstm.named_parameters()}
    expected = {name: p.requires_grad for name, p in lstm.named_parameters()}
    assert given == expected and x.grad is None


def test_gradients_accumulate(lstm: Any, x: Any) -> None:
    lstm(x)[0].sum().backward()
    first = [p.grad.clone() for p in lstm.parameters()]
    lstm(x)[0].sum().backward()
    for p, once in zip(lstm.parameters(), first, strict=True):
        torch.testing.assert_close(p.grad, 2 * once)


def test_weights_that_are_computed(lstm: Any, x: Any) -> None:
    stock = torch.nn.LSTM(8, 8)
    for module in (lstm, stock):
        torch.nn.utils.parametrizations.weight_norm(module, "weight_hh_l0")
    stock.load_state_dict(lstm.state_dict())
    mine, theirs = lstm(x)[0], stock(x)[0]
    torch.testing.assert_close(mine, theirs)
    mine.sum().backward()
    theirs.sum().backward()
    for one, other in zip(lstm.parameters(), stock.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)

"""The keyword by which transformers' language models take their keys and values: it was renamed in 5.24."""

from __future__ import annotations

import pytest
from torch import nn
from transformers import DynamicCache

from sa2va_tools.model.families.kv_cache import cache_argument


class _New(nn.Module):
    def forward(self, inputs_embeds, cache=None, **others):
        return cache


class _Old(nn.Module):
    def forward(self, inputs_embeds, past_key_values=None, **others):
        return past_key_values


@pytest.mark.parametrize("kind", [_New, _Old])
def test_a_model_gets_its_cache_by_the_name_that_it_knows(kind):
    states, model = DynamicCache(), kind()
    assert model(None, **cache_argument(model, states)) is states

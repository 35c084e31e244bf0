"""Training pairs: which ones occur, their alignment, their augmentation, their order across workers and ranks."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_data import AGES, IDENTITIES, SIZE, write_tiny_dataset

from fran_lightning.data.datamodule import AgePairDataModule, PairBatch, split_identities
from fran_lightning.data.pairs import EpochSampler, FixedPairs, IdentityReader, TrainingPairs
from fran_lightning.data.regions import blend, blob_region, class_region
from fran_lightning.data.transforms import PairColourJitter, PairGeometry
from fran_lightning.errors import UserError

NAMES = [f"{index:06d}" for index in range(IDENTITIES)]


def training_pairs(root: Path, regional: float = 0.0, crop_size: int = 48, seed: int = 0) -> TrainingPairs:
    return TrainingPairs(IdentityReader(root, AGES), NAMES[1:], AGES, crop_size, regional, seed)


def data_module(root: Path, **settings: object) -> AgePairDataModule:
    defaults = {"crop_size": 48, "batch_size": 4, "num_workers": 0, "pairs_per_epoch": 16}
    module = AgePairDataModule(str(root), **(defaults | settings))
    module.setup()
    return module


# ---------------------------------------------------------------- which pairs


def test_every_ordered_pair_occurs_equally_often_same_age_pairs_included(tiny_dataset):
    pairs = training_pairs(tiny_dataset)
    drawn = [pairs.draw(number)[0] for number in range(6400)]
    counts = Counter((pair.source_age, pair.target_age) for pair in drawn)
    assert len(counts) == len(AGES) ** 2
    assert {(age, age) for age in AGES} < set(counts)
    assert 0.8 < min(counts.values()) / 400 < max(counts.values()) / 400 < 1.2
    assert set(Counter(pair.identity for pair in drawn)) == set(NAMES[1:])


def test_the_wrong_age_is_any_age_but_the_targets(tiny_dataset):
    pairs = training_pairs(tiny_dataset)
    seen = {(pair.target_age, wrong) for pair, wrong, _ in map(pairs.draw, range(1000))}
    assert seen == {(target, wrong) for target in AGES for wrong in AGES if target != wrong}


def test_an_epoch_is_by_default_every_ordered_pair_once_on_average(tiny_dataset):
    module = data_module(tiny_dataset, pairs_per_epoch=None)
    assert module.pairs_per_epoch == len(module.train_identities) * len(AGES) ** 2


def test_validation_pairs_are_fixed_and_cover_all_ordered_pairs_when_asked(tiny_dataset):
    reader = IdentityReader(tiny_dataset, AGES)
    every = FixedPairs(reader, NAMES[:2], AGES, 48, pairs_per_identity=100, seed=0)
    assert len(set(every.pairs)) == len(every) == 2 * len(AGES) ** 2
    few = [FixedPairs(reader, NAMES[:2], AGES, 48, pairs_per_identity=5, seed=0) for _ in range(2)]
    assert few[0].pairs == few[1].pairs
    assert len(set(few[0].pairs)) == 10
    assert torch.equal(few[0][3]["target"], few[1][3]["target"])


# ---------------------------------------------------------------- split


def test_splits_are_by_identity_and_disjoint():
    names = [f"{index:06d}" for index in range(50)]
    train, val, test = split_identities(names, 0.1, 0.2, seed=0)
    assert (len(train), len(val), len(test)) == (35, 5, 10)
    assert sorted(train + val + test) == names
    assert split_identities(names, 0.1, 0.2, seed=0) == (train, val, test)
    assert split_identities(names, 0.1, 0.2, seed=1)[1] != val


@pytest.mark.parametrize(("count", "sizes"), [(2, (1, 1, 0)), (3, (2, 1, 0)), (8, (5, 2, 1))])
def test_small_datasets_still_hold_identities_out(count, sizes):
    parts = split_identities([str(index) for index in range(count)], 0.1, 0.1, seed=0)
    assert tuple(map(len, parts)) == sizes


def test_one_identity_cannot_be_split(tmp_path):
    write_tiny_dataset(tmp_path, identities=1)
    with pytest.raises(UserError, match="at least two are needed"):
        data_module(tmp_path)


def test_the_loaders_never_mix_the_splits(tiny_dataset):
    module = data_module(tiny_dataset, pairs_per_epoch=200, test_fraction=0.2)
    seen = [
        {name for batch in loader for name in batch["identity"]}
        for loader in (module.train_dataloader(), module.val_dataloader(), module.test_dataloader())
    ]
    assert seen[0] == set(module.train_identities)
    assert seen[1] == set(module.val_identities)
    assert seen[2] == set(module.test_identities)
    assert sum(map(len, seen)) == len(set.union(*seen)) == IDENTITIES


# ---------------------------------------------------------------- geometry


@pytest.mark.parametrize("size", [48, 64])
def test_both_images_and_the_region_get_the_same_geometry(size):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (64, 64, 3)).astype(np.uint8)
    image[..., 1] = image[..., 0]
    geometry = PairGeometry(size, augment=True)
    results = []
    for seed in range(20):
        source, target, region = geometry(image, image, image[..., 0].astype(np.float32) / 255, seed)
        assert source.shape == (size, size, 3)
        assert np.array_equal(source, target)
        # the region is warped in float, the images in bytes
        assert np.abs(region * 255 - source[..., 0]).max() < 3
        results.append(source.tobytes())
    assert len(set(results)) > 15  # a fifth is not rotated
    assert geometry(image, image, image[..., 0], 7)[0].tobytes() == results[7]


def test_without_augmentation_it_is_the_centre_crop():
    image = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)
    source, target, region = PairGeometry(4, augment=False)(image, image, image[..., 0].astype(np.float32), 3)
    assert np.array_equal(source, image[2:6, 2:6])
    assert np.array_equal(target, source)
    assert np.array_equal(region, image[2:6, 2:6, 0])


# ---------------------------------------------------------------- colour


def test_the_same_colour_jitter_reaches_both_images_of_a_pair():
    torch.manual_seed(0)
    images = torch.rand(8, 3, 16, 16) * 1.6 - 0.8
    source, target = PairColourJitter(1.0)(images, images)
    torch.testing.assert_close(source, target)
    changes = (source - images).abs().mean(dim=(1, 2, 3))
    assert (changes > 0.02).sum() >= 4
    assert len({round(change, 5) for change in changes.tolist()}) >= 4  # each pair its own
    assert source.min() >= -1
    assert source.max() <= 1


def test_colour_jitter_belongs_to_training_alone(tiny_dataset):
    module = data_module(tiny_dataset, colour_jitter=1.0)
    batch = next(iter(module.val_dataloader()))
    pairs = module.on_after_batch_transfer(batch, 0)
    assert torch.equal(pairs.source, batch["source"].float() / 127.5 - 1)


# ---------------------------------------------------------------- randomness


def flatten(loader: torch.utils.data.DataLoader) -> list[bytes]:
    return [image.numpy().tobytes() for batch in loader for image in batch["source"]]


def test_workers_change_nothing_and_repeat_nothing(tiny_dataset):
    """albumentations 2.0.8 by itself gives every worker one random stream, and every epoch the same one."""
    runs = {}
    for workers in (0, 2):
        loader = data_module(tiny_dataset, num_workers=workers).train_dataloader()
        runs[workers] = []
        for epoch in range(2):
            loader.sampler.set_epoch(epoch)
            runs[workers] += flatten(loader)
    assert runs[0] == runs[2]
    assert len(set(runs[0])) == 32


def test_the_same_pair_is_augmented_differently_every_time(tiny_dataset):
    pairs = TrainingPairs(IdentityReader(tiny_dataset, AGES), NAMES[:1], AGES[:2], 48, 0.0, seed=0)
    twins = [number for number in range(60) if pairs.draw(number)[0].source_age == AGES[0]]
    assert len({pairs[number]["source"].numpy().tobytes() for number in twins}) > 0.9 * len(twins)


def test_the_seed_decides_everything(tiny_dataset):
    first, again, other = (training_pairs(tiny_dataset, regional=0.5, seed=seed) for seed in (0, 0, 1))
    for number in range(8):
        assert all(torch.equal(first[number][name], again[number][name]) for name in ("source", "target", "region"))
    assert any(not torch.equal(first[number]["source"], other[number]["source"]) for number in range(8))


# ---------------------------------------------------------------- regional pairs


def test_regional_targets_are_blends_and_the_age_map_says_so(tiny_dataset):
    """Without augmentation: outside the region the target is the source, inside it is the other age."""
    pairs = training_pairs(tiny_dataset, regional=1.0, crop_size=SIZE)
    pairs.geometry = PairGeometry(SIZE, augment=False)
    module = data_module(tiny_dataset)
    covered, partial = 0.0, 0
    for number in range(12):
        pair, _, _ = pairs.draw(number)
        sample = pairs[number]
        old, new = (
            torch.from_numpy(pairs.reader.image(pair.identity, age)).permute(2, 0, 1).float()
            for age in (pair.source_age, pair.target_age)
        )
        region = sample["region"]
        assert torch.equal(sample["source"], old.byte())
        assert (sample["target"].float() - (old + (new - old) * region)).abs().max() <= 0.5 + 1e-3
        batch = module.on_after_batch_transfer(torch.utils.data.default_collate([sample]), 0)
        expected = (pair.source_age + (pair.target_age - pair.source_age) * region) / 100
        torch.testing.assert_close(batch.target_age_map[0], expected)
        assert torch.all(batch.source_age_map == pair.source_age / 100)
        covered += region.mean().item() / 12
        partial += bool(region.min() < 0.1 and region.max() > 0.9)
    assert 0.1 < covered < 0.9
    assert partial >= 6


def test_whole_pairs_have_the_target_age_everywhere(tiny_dataset):
    module = data_module(tiny_dataset, regional_probability=0.0)
    batch = next(iter(module.train_dataloader()))
    maps = module.on_after_batch_transfer(batch, 0)
    assert isinstance(maps, PairBatch)
    assert torch.all(batch["region"] == 1)
    torch.testing.assert_close(maps.target_age_map[:, 0, 5, 9], batch["target_age"] / 100)
    assert maps.generator_input.shape == (4, 5, 48, 48)
    torch.testing.assert_close(maps.generator_input[:, 3:4], maps.source_age_map.contiguous())
    assert torch.all(maps.wrong_age_map[:, 0, 0, 0] != maps.target_age_map[:, 0, 0, 0])


@pytest.mark.parametrize("probability", [0.0, 0.25, 1.0])
def test_the_share_of_regional_pairs(tiny_dataset, probability):
    pairs = training_pairs(tiny_dataset, regional=probability)
    regional = sum(bool((pairs[number]["region"] != 1).any()) for number in range(120))
    assert abs(regional / 120 - probability) < 0.13
    assert (probability == 1) == (regional == 120)


def test_class_regions_follow_the_classes_of_both_ages():
    source, target = np.zeros((64, 64), np.uint8), np.zeros((64, 64), np.uint8)
    source[20:30, 20:30] = 10
    target[34:44, 20:30] = 10
    regions = [class_region(source, target, np.random.default_rng(seed)) for seed in range(10)]
    found = [region for region in regions if region is not None]
    assert 0 < len(found) < 10  # a choice of classes that are absent gives none
    for region in found:
        assert region[25, 25] > 0.5
        assert region[39, 25] > 0.5
        assert region[5, 55] < 0.01
        assert region.min() >= 0
        assert region.max() <= 1


def test_blobs_are_soft_and_cover_about_half():
    regions = np.stack([blob_region(48, 64, np.random.default_rng(seed)) for seed in range(30)])
    assert regions.shape == (30, 48, 64)
    assert regions.min() >= 0
    assert regions.max() <= 1
    assert 0.4 < regions.mean() < 0.6
    assert np.abs(np.diff(regions, axis=2)).max() < 0.8


def test_blend_keeps_the_source_outside_and_takes_the_target_inside():
    source, target = np.full((2, 2, 3), 10, np.uint8), np.full((2, 2, 3), 200, np.uint8)
    region = np.array([[0.0, 1.0], [0.5, 0.25]], np.float32)
    assert blend(source, target, region)[..., 0].tolist() == [[10, 200], [105, 58]]


# ---------------------------------------------------------------- reading


def test_images_are_scaled_down_and_labels_keep_their_classes(tiny_dataset):
    reader = IdentityReader(tiny_dataset, AGES, image_size=32)
    whole = IdentityReader(tiny_dataset, AGES)
    assert reader.image(NAMES[0], AGES[0]).shape == (32, 32, 3)
    assert reader.labels(NAMES[0], AGES[0]).shape == (32, 32)
    assert set(np.unique(reader.labels(NAMES[0], AGES[0]))) <= set(np.unique(whole.labels(NAMES[0], AGES[0])))


def test_the_cache_stays_within_its_limit_and_serves_what_it_holds(tmp_path):
    write_tiny_dataset(tmp_path, identities=100, labels=False)
    reader = IdentityReader(tmp_path, AGES, cache_megabytes=1)
    names = [f"{index:06d}" for index in range(100)]
    first = {name: reader.image(name, AGES[0]) for name in names}
    cached = {name for name in names if reader.image(name, AGES[0]) is first[name]}
    assert cached == set(names[: 2**20 // (SIZE * SIZE * 3)])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"crop_size": 128}, "fewer than --data.crop_size 128"),
        ({"image_size": 128}, "fewer than --data.image_size 128"),
        ({"image_size": 32, "crop_size": 48}, "have 32 pixels, fewer than --data.crop_size 48"),
    ],
)
def test_sizes_that_the_data_do_not_have_are_refused(tiny_dataset, settings, message):
    with pytest.raises(UserError, match=message):
        data_module(tiny_dataset, **settings)


def test_a_missing_age_is_found_before_training(tmp_path):
    write_tiny_dataset(tmp_path)
    (tmp_path / "000003" / "60.png").unlink()
    with pytest.raises(UserError, match="000003 has no image of age 60; run `fran check-data"):
        data_module(tmp_path)


def test_the_fingerprint_is_equal_for_equal_data_and_split_alone(tiny_dataset, tmp_path):
    write_tiny_dataset(tmp_path / "tiny", identities=4)
    prints = [
        data_module(tiny_dataset).describe()["fingerprint"],
        data_module(tiny_dataset, batch_size=2).describe()["fingerprint"],
        data_module(tiny_dataset, seed=3).describe()["fingerprint"],
        data_module(tmp_path / "tiny").describe()["fingerprint"],
    ]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 3


# ---------------------------------------------------------------- epochs, ranks, resumption


def test_epochs_count_on(tiny_dataset):
    sampler = EpochSampler(10)
    epochs = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        epochs.append(list(sampler))
    assert epochs == [list(range(10)), list(range(10, 20)), list(range(20, 30))]


@pytest.mark.parametrize(("pairs", "ranks"), [(12, 2), (13, 3), (7, 4)])
def test_ranks_get_equally_many_different_pairs(monkeypatch, pairs, ranks):
    dealt = []
    for rank in range(ranks):
        sampler = EpochSampler(pairs)
        monkeypatch.setattr(sampler, "_ranks", lambda rank=rank: (rank, ranks))
        sampler.set_epoch(2)
        dealt.append(list(sampler))
        assert len(sampler) == len(dealt[-1]) == pairs // ranks
    numbers = [number for part in dealt for number in part]
    assert len(set(numbers)) == len(numbers)
    assert set(numbers) <= set(range(2 * pairs, 3 * pairs))


def test_a_resumed_epoch_goes_on_where_it_stopped_and_the_next_is_whole():
    sampler = EpochSampler(10)
    sampler.resume(epoch=1, pairs_done=4)
    sampler.set_epoch(1)
    assert list(sampler) == list(range(14, 20))
    sampler.set_epoch(2)
    assert list(sampler) == list(range(20, 30))

"""Speech as a data set: frames with their neighbours, ids, labels, pools, and what is refused."""

import dataclasses
import hashlib
import json
import re
import struct

import jax
import jax.numpy as jnp
from made_up import speech_folder
from made_up import timit_tree
import numpy as np
import pytest
import soundfile

from shallow_jax import data
from shallow_jax import models
from shallow_jax.data import dataset
from shallow_jax.data import speech as speech_lib
from shallow_jax.logits import predict
from shallow_jax.pipeline import run as run_lib
from shallow_jax.runtime import errors
from shallow_jax.settings import defaults
from shallow_jax.speech.recordings import features
from shallow_jax.speech.recordings import phones
from shallow_jax.training import step as step_lib


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """A corpus and, in pool/, a recording of its own and one that anna says too."""
  folder = speech_folder.write(tmp_path_factory.mktemp('speech'))
  speech_folder.add(folder / 'pool', 'new.wav', timit_tree.samples(1300, seed=5), rate=8_000)
  speech_folder.add(folder / 'pool', 'known.wav', speech_folder.samples('anna', 1))
  return folder


@pytest.fixture(scope='module')
def speech(folder):
  both = dict(both=dict(of=('train', 'unlabelled')))
  return data.load(speech_folder.config(folder, pool_dir=str(folder / 'pool'), sets=both))


def windows(speech, split):
  """The raw inputs of a split frame by frame, from its recordings' samples."""
  found = []
  for name in speech.recognition.utterances[split].names:
    speaker, number = name.split('_')[0], int(name[-1])
    rows = features.deltas(features.filterbank(speech_folder.samples(speaker, number)))
    padded = np.pad(rows, ((7, 7), (0, 0)), mode='edge')
    found += [padded[t : t + 15] for t in range(len(rows))]
  return np.array(found)


def windows_by_id(speech, split):
  ids = map(tuple, speech.splits[split].arrays['id'].tolist())
  return dict(zip(ids, windows(speech, split), strict=True))


def refused(config):
  """The line with which the data are refused."""
  with pytest.raises(dataset.DataError) as caught:
    data.load(config)
  assert '\n' not in str(caught.value)
  return str(caught.value)


# ---- inputs ----


@pytest.mark.parametrize('on_device', [False, True])
@pytest.mark.parametrize('split', ['train', 'validation', 'test'])
def test_an_input_is_15_frames_of_one_recording(speech, split, on_device):
  arrays = speech.splits[split].arrays
  order = np.random.default_rng(0).permutation(len(arrays['id'])).astype(np.int32)
  take = jax.jit(dataset.take_views) if on_device else dataset.take_views
  batch = take(jax.device_put(arrays) if on_device else arrays, order, np.zeros_like(order))
  assert set(batch) == {'input', 'label', 'id'}
  assert batch['input'].dtype == np.float32
  np.testing.assert_array_equal(batch['input'], windows(speech, split)[order])
  np.testing.assert_array_equal(batch['label'], arrays['label'][order])


def test_a_training_batch_of_joined_sets_keeps_recordings_apart(speech):
  joined = dataset.concatenate([speech.splits['train'], speech.splits['unlabelled']]).arrays
  indices = np.arange(len(joined['id']), dtype=np.int32)
  batch = jax.jit(step_lib.batch_of)(joined, dict(indices=indices, views=np.zeros_like(indices)))
  num_train = len(speech.splits['train'])
  np.testing.assert_array_equal(batch['input'][:num_train], windows(speech, 'train'))
  alone = speech.splits['unlabelled'].arrays
  rows = np.arange(len(alone['id']))
  expected = dataset.take_views(alone, rows, np.zeros_like(rows))['input']
  np.testing.assert_array_equal(batch['input'][num_train:], expected)


def test_chosen_rows_are_predicted_with_their_neighbours(speech):
  module = models.build(dict(name='dnn', hidden=(5,), dropout=0.0, input_dropout=0.0), 9)
  variables = models.init(module, jax.random.key(0), speech.input_shape)
  arrays, rows = speech.splits['train'].arrays, np.array([20, 0, 33, 21])
  member = predict.Member(module, variables)
  found = predict.logits([member], speech, arrays, batch_size=3, rows=rows)[0]
  frame = arrays['input'].astype(np.float64)
  x = (windows(speech, 'train')[rows] - frame.mean(axis=0)) / frame.std(axis=0)
  np.testing.assert_allclose(found, models.apply(module, variables, jnp.asarray(x)), atol=2e-3)
  whole = predict.logits([member], speech, arrays, batch_size=16)[0]
  np.testing.assert_allclose(found, whole[rows], atol=1e-5)


def test_each_dimension_is_standardised_by_the_frames_of_train(speech):
  frame = speech.splits['train'].arrays['input'].astype(np.float64)
  assert frame.shape == (36, 123)
  np.testing.assert_allclose(speech.constants['mean'], frame.mean(axis=0), rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(speech.constants['std'], frame.std(axis=0), rtol=1e-5)
  raw = {'input': jnp.asarray(windows(speech, 'test'))}
  x = jax.jit(speech.inputs)(speech.constants, raw, None)
  assert x.shape[1:] == speech.input_shape == (15, 123)
  expected = (raw['input'] - speech.constants['mean'][None, None]) / frame.std(axis=0)[None, None]
  np.testing.assert_allclose(x, expected, rtol=1e-4, atol=1e-4)


# ---- rows ----


def test_an_id_is_the_samples_hash_and_the_frames_number(speech):
  samples = speech_folder.samples('bert', 1)
  digest = hashlib.sha256(struct.pack(f'<{len(samples)}d', *samples)).digest()
  first, second = struct.unpack('>IH', digest[:6])
  ids = speech.splits['validation'].arrays['id']
  its = ids[ids[:, 0] == first]
  np.testing.assert_array_equal(its[:, 1], (second << 16) + np.arange(16))


def test_rows_do_not_depend_on_names_or_kinds_of_files(speech, folder, tmp_path):
  (tmp_path / 'recordings').mkdir()
  for path in (folder / 'recordings').rglob('*.wav'):
    place = tmp_path / 'recordings' / path.parent.name
    place.mkdir(exist_ok=True)
    stem = f'x{9 - int(path.stem[-1])}'  # the other way around
    soundfile.write(place / f'{stem}.flac', soundfile.read(path, dtype='int16')[0], 16_000)
    (place / f'{stem}.phn').write_text(path.with_suffix('.phn').read_text())
  for name in ('phones.map', 'splits.txt'):
    (tmp_path / name).write_text((folder / name).read_text())
  other = data.load(speech_folder.config(tmp_path))
  for name in ('train', 'validation', 'test'):
    for key, array in speech.splits[name].arrays.items():
      np.testing.assert_array_equal(other.splits[name].arrays[key], array)


@pytest.mark.parametrize('name', ['train', 'unlabelled', 'both'])
def test_sorting_keeps_recordings_whole(speech, name):
  split = speech.splits[name]
  for key, array in dataset.sort(split).arrays.items():
    np.testing.assert_array_equal(array, split.arrays[key])
  number = split.arrays['id'][:, 1] & 0xFFFF
  begins = number == 0
  np.testing.assert_array_equal(number[1:][~begins[1:]], number[:-1][~begins[1:]] + 1)
  np.testing.assert_array_equal(split.arrays['before'], np.minimum(number, 7))


def test_a_set_of_several_has_the_inputs_of_each(speech):
  both = speech.splits['both'].arrays
  rows = np.arange(len(both['id']))
  found = dataset.take_views(both, rows, np.zeros_like(rows))['input']
  known = windows_by_id(speech, 'train')
  its = [i for i, row in enumerate(both['id'].tolist()) if tuple(row) in known]
  assert len(its) == 36 < len(rows)
  for i in its:
    np.testing.assert_array_equal(found[i], known[tuple(both['id'][i].tolist())])
  assert set(both['label']) == {dataset.UNKNOWN}


def test_labels_are_thirds_of_the_segments_by_the_frames_centres(tmp_path):
  speech_folder.write(tmp_path)
  # 9 frames with centres at 200, 360, ..., 1480
  (tmp_path / 'recordings/anna/anna3.phn').write_text('0 520 h#\n520 1000 a\n1000 1700 b\n')
  found = data.load(speech_folder.config(tmp_path))
  assert found.class_names == ('h#_0', 'h#_1', 'h#_2', 'a_0', 'a_1', 'a_2', 'b_0', 'b_1', 'b_2')
  rows = found.recognition.utterances['train']
  i = rows.names.index('anna_anna3')
  labels = found.splits['train'].arrays['label'][rows.offsets[i] : rows.offsets[i + 1]]
  np.testing.assert_array_equal(labels, [0, 2, 3, 4, 5, 6, 7, 7, 8])
  np.testing.assert_array_equal(rows.transcriptions[i], [0, 1, 2])


# ---- utterances ----


def test_utterances_stand_in_the_order_of_the_rows(speech):
  for name, rows in speech.recognition.utterances.items():
    ids = speech.splits[name].arrays['id']
    lengths = [speech_folder.FRAMES[row.split('_')[0]][int(row[-1])] for row in rows.names]
    np.testing.assert_array_equal(np.diff(rows.offsets), lengths)
    assert rows.offsets[-1] == len(ids) and rows.offsets.dtype == np.int64
    np.testing.assert_array_equal(ids[rows.offsets[:-1], 1] & 0xFFFF, 0)
    assert rows.speakers == tuple(row.split('_')[0] for row in rows.names)
    assert [list(labels) for labels in rows.transcriptions] == [
      [0, 1 + int(row[-1]) % 2] for row in rows.names
    ]
  assert set(speech.recognition.utterances) == {'train', 'validation', 'test'}
  assert speech.recognition.phones.labels == speech_folder.LABELS


def test_the_fingerprint_tells_transcriptions_and_settings(speech):
  described = speech.fingerprint()
  assert json.loads(json.dumps(described)) == described
  assert described['preprocessing']['features'] == features.SETTINGS
  rows = speech.recognition.utterances['test']
  changed = dataclasses.replace(rows, transcriptions=(*rows.transcriptions[:-1], np.array([0])))
  recognition = dataclasses.replace(
    speech.recognition, utterances={**speech.recognition.utterances, 'test': changed}
  )
  other = dataclasses.replace(speech, recognition=recognition).fingerprint()
  assert (
    other['recognition']['utterances']['test'] != described['recognition']['utterances']['test']
  )
  other['recognition'] = described['recognition']
  assert other == described
  assert 'recognition' not in dataclasses.replace(speech, recognition=None).fingerprint()


def test_fewer_utterances_lie_in_more(folder):
  names = []
  for count in (1, 3, 0):
    found = data.load(speech_folder.config(folder, max_utterances=count))
    names.append(set(found.recognition.utterances['train'].names))
    assert found.notes['utterances']['train'] == len(names[-1])
  assert list(map(len, names)) == [1, 3, 4]
  assert names[0] < names[1] < names[2]


# ---- the cache ----


def test_features_are_computed_once(tmp_path, monkeypatch):
  speech_folder.write(tmp_path)
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'home'))
  config = speech_folder.config(tmp_path, cache_dir='')
  first = data.load(config)
  assert len(list((tmp_path / 'home/shallow_jax').glob('*/features.npy'))) == 1
  monkeypatch.setattr(features, 'extract', None)
  (tmp_path / 'splits.txt').write_text('anna test\nbert train\ncarl validation\n')
  second = data.load(config)
  np.testing.assert_array_equal(
    second.splits['test'].arrays['input'], first.splits['train'].arrays['input']
  )


# ---- pools ----


def test_a_pool_has_frames_of_any_rate_without_labels(speech):
  pool = speech.splits['unlabelled'].arrays
  assert len(pool['id']) == features.frames(2 * 1300)
  assert set(pool['label']) == {dataset.UNKNOWN}
  assert speech.notes['utterances'] == dict(train=4, validation=2, test=2, unlabelled=1)


def test_a_pools_recordings_that_the_corpus_has_are_dropped(speech, folder, tmp_path):
  assert speech.notes['duplicates_dropped'] == dict(train=1, unlabelled=0)
  assert speech.notes['leaks_dropped'] == dict(validation=0, test=0)
  pool = tmp_path / 'pool'
  for i in range(2):
    speech_folder.add(pool, f'carl{i}.wav', speech_folder.samples('carl', i))
  config = speech_folder.config(folder, pool_dir=str(pool))
  assert 'the pool has 2 recordings and all stand in train, validation or test' in refused(config)
  for name in ('one.wav', 'two.wav'):
    speech_folder.add(pool, name, timit_tree.samples(900))
  found = data.load(config)
  assert found.notes['leaks_dropped'] == dict(validation=0, test=2)
  assert found.notes['duplicates_dropped'] == dict(train=0, unlabelled=1)
  assert len(found.splits['unlabelled']) == 4


# ---- refusals ----


@pytest.mark.parametrize(
  ('changes', 'line'),
  [
    (dict(data_dir=''), "data.data_dir is '', expected a folder of recordings"),
    (dict(phone_map=''), "data.phone_map is '', expected a file or one of timit, cmu_arctic"),
    (dict(split_file=''), "data.split_file is '', expected a file of lines"),
    (dict(pool_dir='nowhere'), 'data.pool_dir: nowhere holds no recording, expected .wav'),
    (dict(preprocessing=dict(name='gcn_zca')), "data.preprocessing.name is 'gcn_zca', expected s"),
    (dict(sets=dict(few=dict(of=('train',), size=3))), 'data.sets.few: size, without_class and'),
    (dict(sets=dict(few=dict(of=('train',), without_class=0))), 'data.sets.few: size, without_cl'),
    (dict(sets=dict(few=dict(of=('train',), munge=dict(size=9)))), 'data.sets.few: size, without'),
    (dict(sets=dict(two=dict(of=('train', 'train')))), 'data.sets.two.of is'),
  ],
)
def test_what_frames_cannot_do_is_refused(folder, changes, line):
  assert line in refused(speech_folder.config(folder, **changes))


def test_fewer_than_no_utterances_are_refused(folder):
  with pytest.raises(errors.ExpectedError, match='max_utterances: expected 0 or more, not -1'):
    speech_folder.config(folder, max_utterances=-1)


def test_timit_that_is_not_there_is_explained(tmp_path):
  complete = defaults.complete(dict(data=dict(name='timit', data_dir=str(tmp_path)), networks={}))
  with pytest.raises(dataset.DataError, match=r'holds no TRAIN and TEST.*'):
    data.load(defaults.plain(complete)['data'])
  rotation = dict(name='timit_sample', data_dir=str(tmp_path), split_seed=8)
  complete = defaults.complete(dict(data=rotation, networks={}))
  assert refused(defaults.plain(complete)['data']) == 'rotation is 8, expected 0 to 7'


def write_nan(path):
  soundfile.write(path, np.full(800, np.nan), 16_000, subtype='FLOAT', format='WAV')


def write_cut_short(path):
  soundfile.write(path, timit_tree.samples(8000), 16_000, format='FLAC')
  path.write_bytes(path.read_bytes()[:9000])


def write_empty(path):
  path.write_bytes(b'')


def test_a_recording_that_turns_out_bad_when_it_is_read_is_skipped_and_counted(tmp_path):
  speech_folder.write(tmp_path)
  nan, cut = (tmp_path / 'recordings' / name for name in ('anna/anna1.wav', 'bert/bert0.wav'))
  write_nan(nan)
  write_cut_short(cut)
  for place, end in ((nan, 800), (cut, 8000)):
    place.with_suffix('.phn').write_text(f'0 {end} h#\n')
  strict, lenient = (speech_folder.config(tmp_path, skip_bad=skip) for skip in (False, True))
  for _ in ('the first time', 'from the cache'):
    assert refused(strict) == f'{nan}: holds samples that are not finite numbers'
    found = data.load(lenient)
    assert found.notes['utterances'] == dict(train=3, validation=1, test=2)
    assert found.notes['files_skipped'] == len(found.notes['skipped']) == 2
    assert found.notes['skipped'][str(cut)].startswith(f'{cut}: not readable')
    assert 'anna_anna1' not in found.recognition.utterances['train'].names
    assert len(found.splits['train']) == 3 + 4 + 9
  cut.with_name('bert1.wav').unlink()
  line = refused(lenient)
  assert line.startswith('no utterance for validation; skipped 2, as ') and str(nan) in line


@pytest.mark.parametrize('write', [write_nan, write_cut_short, write_empty])
def test_a_bad_recording_in_the_pool_is_skipped_and_counted(folder, tmp_path, write):
  pool = tmp_path / 'pool'
  pool.mkdir()
  bad = pool / 'bad.wav'
  write(bad)
  (pool / '._good.wav').write_bytes(b'what macOS leaves')
  strict, lenient = (
    speech_folder.config(folder, pool_dir=str(pool), skip_bad=skip) for skip in (False, True)
  )
  line = f'data.pool_dir: {pool} holds no recording but 1 that were skipped, expected .wav'
  assert line in refused(lenient)
  speech_folder.add(pool, 'good.wav', timit_tree.samples(900), rate=22_050)
  assert refused(strict).startswith(f'{bad}: ')
  found = data.load(lenient)
  assert found.notes['utterances']['unlabelled'] == found.notes['files_skipped'] == 1
  assert found.notes['skipped'][str(bad)] == refused(strict)


def test_a_recording_that_is_too_long_is_skipped_and_counted(folder, tmp_path, monkeypatch):
  pool = tmp_path / 'pool'
  speech_folder.add(pool, 'long.wav', timit_tree.samples(400 + 160 * 20))
  speech_folder.add(pool, 'short.wav', timit_tree.samples(900))
  monkeypatch.setattr(speech_lib, 'MAX_FRAMES', 20)
  strict, lenient = (
    speech_folder.config(folder, pool_dir=str(pool), skip_bad=skip) for skip in (False, True)
  )
  line = 'long.wav: 21 frames, expected 20 at most: cut it into several recordings'
  assert refused(strict) == line
  found = data.load(lenient)
  assert found.notes['skipped'] == {str(pool / 'long.wav'): line}
  assert found.notes['utterances']['unlabelled'] == 1


def test_the_same_recording_twice_is_refused(tmp_path):
  speech_folder.write(tmp_path)
  place = tmp_path / 'recordings'
  (place / 'carl/carl0.wav').write_bytes((place / 'bert/bert1.wav').read_bytes())
  (place / 'carl/carl0.phn').write_bytes((place / 'bert/bert1.phn').read_bytes())
  assert 'bert_bert1 and carl_carl0: the same samples' in refused(speech_folder.config(tmp_path))


def test_a_recording_whose_frames_ids_would_overflow_is_refused():
  longest = np.zeros((2**16, 1), np.float32)
  speech_lib.check_length(speech_lib.Recording('long', 'ab' * 32, longest))
  longer = np.zeros((2**16 + 1, 1), np.float32)
  with pytest.raises(dataset.DataError, match=re.escape('long: 65,537 frames, expected 65,536')):
    speech_lib.check_length(speech_lib.Recording('long', 'ab' * 32, longer))
  last = speech_lib.frames([speech_lib.Recording('long', 'ff' * 32, longest)], None).arrays['id'][
    -1
  ]
  np.testing.assert_array_equal(last, [0xFFFFFFFF, 0xFFFFFFFF])


def test_frames_are_not_selected_one_by_one(speech):
  with pytest.raises(dataset.DataError, match='frames of speech were to be selected'):
    speech.splits['train'].select(np.array([3, 5]))
  with pytest.raises(dataset.DataError, match='frames of speech were to be selected'):
    dataset.carve(speech.splits['train'], dict(some=3), seed=0, source='train')


def test_splits_of_data_without_a_seed_are_refused():
  with pytest.raises(defaults.ConfigError, match="data 'timit' has no split_seed"):
    defaults.complete(dict(data=dict(name='timit'), networks={}, splits=(0, 1)))


# ---- all of it ----


@pytest.mark.slow
def test_all_of_timit_is_3696_400_and_192_utterances(tmp_path):
  root = timit_tree.write(tmp_path / 'TIMIT')
  for i, path in enumerate(sorted(root.rglob('*.WAV'))):  # links to few files of equal samples
    length = (path.stat().st_size - 1024) // 2
    path.unlink()
    path.write_bytes(timit_tree.sphere(timit_tree.samples(length, seed=i)))
  timit = dict(name='timit', data_dir=str(root), cache_dir=str(tmp_path / 'cache'))
  found = data.load(defaults.plain(defaults.complete(dict(data=timit, networks={})))['data'])
  assert found.notes['utterances'] == dict(train=3696, validation=400, test=192)
  assert found.notes['shared_sentences']['validation/test'] == 115
  assert found.recognition.phones == phones.load('timit') and len(found.class_names) == 183
  for name, rows in found.recognition.utterances.items():
    assert len(rows.names) == found.notes['utterances'][name]
    assert rows.offsets[-1] == len(found.splits[name])


@pytest.mark.slow
def test_a_shallow_net_learns_from_a_deep_one_on_frames(folder, tmp_path):
  schedule = dict(batch_size=8, num_steps=20, evaluate_every_steps=10)
  mimic = dict(
    targets='deep',
    loss=dict(name='logit_l2'),
    optimizer=dict(learning_rate=0.001),
    examples=('train', 'unlabelled'),
  )
  networks = dict(
    deep=dict(model=dict(name='dnn', hidden=(8,)), **schedule),
    mimic=dict(model=dict(name='shallow', hidden=20, bottleneck=4), **mimic, **schedule),
  )
  config = dict(
    data=speech_folder.config(folder, pool_dir=str(folder / 'pool')),
    networks=networks,
    logits=dict(shard_rows=16, batch_size=8),
    evaluation=dict(latency_batches=(1,)),
  )
  found = run_lib.run(config, tmp_path / 'run')
  assert found['data']['utterances']['unlabelled'] == 1
  assert found['networks']['mimic']['metrics']['test']['error']['mean'] <= 100

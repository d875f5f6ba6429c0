"""A language of four labels, whose frames are easy to tell apart, as a data set."""

import jax.numpy as jnp
import numpy as np

from shallow_jax.data import dataset as dataset_lib
from shallow_jax.speech import hmm
from shallow_jax.speech import recognise
from shallow_jax.speech.recordings import phones

PHONES = phones.PhoneMap(('h#', 'a', 'b', 'q'), {'h#': 'sil', 'a': 'aa', 'b': 'b', 'q': None})
NUM_STATES = 3 * len(PHONES.labels)
COUNTS = {'train': 12, 'validation': 4, 'test': 4}
LENGTH = 9  # frames a label


def make_recognition(counts=None, seed=0):
  """Recognition, and the labels int32 [frames] of each split: `counts` utterances of 5 labels."""
  rng = np.random.default_rng(seed)
  utterances, labels = {}, {}
  for split, count in (counts or COUNTS).items():
    spoken = [np.array([0, *rng.integers(1, 4, 3), 0], np.int32) for _ in range(count)]
    aligned = [uniform(labels) for labels in spoken]
    utterances[split] = recognise.Utterances(
      names=tuple(f'{split}_{i}' for i in range(count)),
      speakers=tuple(f'{split}{i % 2}' for i in range(count)),
      offsets=np.cumsum([0, *map(len, aligned)]),
      transcriptions=tuple(spoken),
    )
    labels[split] = np.concatenate(aligned)
  return recognise.Recognition(PHONES, utterances), labels


def uniform(labels):
  """States of labels that each last LENGTH frames."""
  samples = 200 + 160 * LENGTH * np.arange(len(labels) + 1)
  segments = [(a, b, int(c)) for a, b, c in zip(samples, samples[1:], labels, strict=False)]
  return hmm.uniform_alignment(segments, LENGTH * len(labels))


def make_logits(labels, sharpness=10.0):
  """Logits [frames, states] of a net that knows its labels."""
  return (sharpness * np.eye(NUM_STATES)[labels]).astype(np.float32)


def make_dataset(noise=0.3):
  """A data set whose states do not last a third of their labels each, see `heard`."""
  found, labels = make_recognition()
  rng = np.random.default_rng(1)
  splits = {}
  for name, states in labels.items():
    inputs = np.eye(NUM_STATES)[heard(states)]
    inputs = (inputs + noise * rng.standard_normal(inputs.shape)).astype(np.float32)
    splits[name] = dataset_lib.Split(
      {'input': inputs, 'label': states, 'id': dataset_lib.ids(inputs)}
    )
  return dataset_lib.Dataset(
    name='made-up',
    class_names=tuple(f'{label}_{state}' for label in PHONES.labels for state in range(3)),
    splits=splits,
    preprocessing={'name': 'none'},
    constants={'mean': np.zeros(1, np.float32)},
    inputs=inputs_of,
    input_shape=(NUM_STATES,),
    notes={'source': 'made up'},
    recognition=found,
  )


def inputs_of(constants, raw, view):
  del constants, view
  return jnp.asarray(raw['input'])


def heard(states):
  """The states that the inputs tell of: they last 4, 3 and 2 frames, not 3 each."""
  part = np.searchsorted((4, 7), np.arange(len(states)) % LENGTH, side='right')
  return 3 * (states // 3) + part

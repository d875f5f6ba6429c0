"""A made-up corpus in TIMIT's layout with TIMIT's 630 speakers, and recordings of any kind.

  python tests/made_up/timit_tree.py FOLDER     recordings as long as TIMIT's, to try the full size

Real are the speakers' names and parts, and which SX sentences the test speakers say (a speaker says
n, n + 90, ..., n + 360; 7 speakers say the same). Made up are the dialect regions, the SI
sentences, the SX sentences of train, the sound and the phones.
"""

import itertools
import os
import pathlib
import struct
import sys

import numpy as np

LISTS = pathlib.Path(__file__).parents[2] / 'shallow_jax' / 'speech' / 'recordings' / 'timit'

# The complete test set: the first of their five SX sentences, and who says them.
_TEST_SPEAKERS = {
  4: 'fedw0 fjem0 mdrb0 mglb0 mjdh0 mrjs0 mtdt0',
  5: 'fjwb0 frng0 mbjk0 mdwa0 mjdm1 mjmp0 mmdb1',
  8: 'fcft0 fcrh0 fpkt0 mcmb0 mdls0 mjar0 mrjm3',
  9: 'fgjd0 mdac2 mgwt0 mjln0 mmwh0 mpcs0 msjs1',
  10: 'fawf0 fmcm0 fram1 mdwk0 mgrt0 mhpg0 msfh1',
  11: 'fjmg0 mgjf0 mjbr0 mjrf0 mkcl0 mrcz0 mwew0',
  12: 'mcrc0 mesd0 mlnt0 mmab0 mmdm2 mpdf0 mrjr0',
  13: 'mdaw1 mdld0 mjjg0 mkdr0 mlih0 mlll0 mrtk0',
  14: 'fcmh0 fdrd1 fslb1 mchh0 mcmj0 mrjo0 mrpp0',
  19: 'fadg0 flkd0 fmaf0 ftlh0 mcsh0 mpam0 mpgl0',
  20: 'fasw0 frew0 mjsw0 mjtc0 mkjl0 mtls0 mtwh0',
  23: 'fdrw0 mbdg0 mctw0 mdrm0 mjvw0 mslb0 mwbt0',
  25: 'fcmr0 fmld0 majc0 mdbb0 mreb0 mtaa0 mthc0',
  28: 'fsem0 fsxa0 mctt0 mkch0 mmjr0 mrrk0 mtas1',
  29: 'fdhc0 fhes0 fjsa0 fmah0 mccs0 mers0 mrgg0',
  34: 'fdac1 fmgd0 futb0 mahh0 mfgk0 mjes0 mstk0',
  36: 'felc0 fjre0 mdvc0 mjth0 mmdh0 mpam1 mwvw0',
  43: 'faks0 fhew0 mjfc0 mklt0 mnls0 mrpc0 mtmr0',
  44: 'fjsj0 flnh0 fpas0 mabw0 mbwm0 mplb0 mwjg0',
  47: 'fcau0 mbpm0 mpwm0 mres0 mrko0 mrms1 mroa0',
  48: 'fdms0 fgwr0 flas0 fnlp0 mcem0 mdsc0 mpab0',
  49: 'fisb0 fjcs0 flbw0 fnmr0 mdab0 mgmm0 mrjm4',
  50: 'fjas0 fkms0 fmml0 mbns0 mljb0 mnjm0 mrws1',
  53: 'fcal1 fcmh1 fgmd0 fjlm0 mdlf0 mrcs0 mteb0',
}
TEST_SPEAKERS = {name: first for first, names in _TEST_SPEAKERS.items() for name in names.split()}
LENGTHS = (800, 960, 1130, 1280)  # samples; the recordings take turns
# Of TIMIT's mean, 304.3 frames: 1.12 million of train.
REAL_LENGTHS = tuple(400 + 160 * (frames - 1) for frames in (150, 210, 260, 300, 340, 390, 480))


def train_speakers():
  """Each with the first of the SX sentences that it says: none of the test set's."""
  names = (LISTS / 'train_spk.list').read_text().split()
  free = [first for first in range(3, 93) if first not in _TEST_SPEAKERS]
  return {name: free[i % len(free)] for i, name in enumerate(names)}


def sentences(speaker_index, first):
  """A speaker's ten: SA1, SA2, three SI that nobody else says, five SX."""
  si = (451 + speaker_index + 630 * i for i in range(3))
  return ['sa1', 'sa2', *(f'si{n}' for n in si), *(f'sx{first + 90 * i}' for i in range(5))]


def samples(length, seed=0):
  return np.random.default_rng(seed).integers(-9000, 9000, length).astype(np.int16)


def sphere(values, *, big_endian=False, rate=16_000, channels=1, coding='pcm', count=None):
  """A SPHERE file's bytes; `count` is the header's if that is to be wrong."""
  header = f"""NIST_1A
   1024
database_id -s5 TIMIT
channel_count -i {channels}
sample_count -i {len(values) // channels if count is None else count}
sample_rate -i {rate}
sample_n_bytes -i 2
sample_byte_format -s2 {'10' if big_endian else '01'}
sample_sig_bits -i 16
sample_coding -s{len(coding)} {coding}
end_head
"""
  return header.encode().ljust(1024) + values.astype('>i2' if big_endian else '<i2').tobytes()


def riff(values, *, rate=16_000, channels=1, data_size=None, extra=b''):
  """A RIFF file's bytes; `extra` are chunks before the data."""
  data = values.astype('<i2').tobytes()
  form = struct.pack('<4sIHHIIHH', b'fmt ', 16, 1, channels, rate, 2 * rate, 2 * channels, 16)
  size = len(data) if data_size is None else data_size
  body = b'WAVE' + form + extra + struct.pack('<4sI', b'data', size) + data
  return struct.pack('<4sI', b'RIFF', len(body)) + body


def phn(length, phone='ih'):
  """Three segments that end a little before the audio, as TIMIT's often do."""
  return f'0 200 h#\n200 600 {phone}\n600 {length - 37} h#\n'.encode()


def write(folder, *, upper=True, duplicates=False):
  """Writes TRAIN and TEST, 6,300 utterances, in upper case as SPHERE, in lower case as RIFF.

  The files of one length are one file (hard links): replace a file, don't write into it.
  """

  def cased(name):
    return name.upper() if upper else name.lower()

  folder.mkdir()
  kinds = []
  for length in LENGTHS:
    audio = (sphere if upper else riff)(samples(length))
    kinds.append({'wav': audio, 'phn': phn(length)} | ({'wav.wav': audio} if duplicates else {}))
  originals = [
    {suffix: folder / f'{i}.{suffix}' for suffix in kind} for i, kind in enumerate(kinds)
  ]
  for kind, paths in zip(kinds, originals, strict=True):
    for suffix, data in kind.items():
      paths[suffix].write_bytes(data)
  turns = itertools.cycle(originals)
  speakers = [('train', *row) for row in train_speakers().items()]
  speakers += [('test', *row) for row in TEST_SPEAKERS.items()]
  for i, (part, speaker, first) in enumerate(speakers):
    place = os.path.join(folder, cased(part), cased(f'dr{1 + i % 8}'), cased(speaker))
    os.makedirs(place)
    for sentence in sentences(i, first):
      paths = next(turns)
      for suffix, original in paths.items():
        os.link(original, os.path.join(place, f'{cased(sentence)}.{named(suffix, cased)}'))
  for path in itertools.chain(*(paths.values() for paths in originals)):
    path.unlink()
  return folder


def named(suffix, cased):
  """WAV, PHN and WAV.wav, as the copies have it that hold both."""
  first, dot, rest = suffix.partition('.')
  return cased(first) + dot + rest


def write_real_sizes(folder):
  """The same tree with recordings as long as TIMIT's, no two of them the same: 620 MB."""
  noise = samples(4_000_000)
  for i, path in enumerate(sorted(write(folder).rglob('*.WAV'))):
    length = REAL_LENGTHS[i % len(REAL_LENGTHS)]
    replace(path, sphere(noise[500 * i :][:length]))
    replace(path.with_suffix('.PHN'), many_phones(length, seed=i))


def replace(path, data):
  path.unlink()
  path.write_bytes(data)


def many_phones(length, seed, each=1280):
  """Segments of 80 ms with phones drawn from TIMIT's 61, silence at both ends."""
  lines = (LISTS.parent / 'phone_maps' / 'timit.map').read_text().splitlines()
  labels = [line.split()[0] for line in lines if line and not line.startswith('#')]
  starts = range(0, length - each + 1, each)
  drawn = np.random.default_rng(seed).choice(labels, len(starts) - 2)
  rows = zip(starts, [*starts[1:], length], ['h#', *drawn, 'h#'], strict=True)
  return ''.join(f'{start} {end} {phone}\n' for start, end, phone in rows).encode()


if __name__ == '__main__':
  write_real_sizes(pathlib.Path(sys.argv[1]))

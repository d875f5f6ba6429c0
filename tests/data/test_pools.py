"""Pools of any source: the same pixels from a folder, an array file and TFDS; what is refused."""

import io
import os
import pathlib
import zipfile

import numpy as np
from PIL import Image
import pytest

from shallow_jax.data import cifar
from shallow_jax.data import dataset
from shallow_jax.data import pools
from shallow_jax.data import tfds_source

SHAPE = (32, 32, 3)


@pytest.fixture(scope='module')
def images():
  return np.random.default_rng(0).integers(0, 256, (6, *SHAPE)).astype(np.uint8)


def ids(images):
  return sorted(dataset.ids(images).tolist())


def read(kind, path, shape=SHAPE):
  return pools.read(kind, str(path), shape)


def refuse(kind, path, message):
  with pytest.raises(dataset.DataError, match=message) as error:
    read(kind, path)
  assert '\n' not in str(error.value)


@pytest.fixture
def folder(images, tmp_path):
  """A folder of all six, two of them deeper inside, in lossless formats."""
  place = tmp_path / 'pool'
  (place / 'more' / 'still more').mkdir(parents=True)
  names = ('b.png', 'a.PNG', 'c.bmp', 'd.tiff', 'more/a.png', 'more/still more/x.ppm')
  for name, image in zip(names, images, strict=True):
    Image.fromarray(image).save(place / name)
  return place


def test_a_folder_gives_all_images_in_it(images, folder):
  pool = read('images', folder)
  assert (pool.images.dtype, pool.images.shape) == (np.uint8, images.shape)
  assert ids(pool.images) == ids(images)
  assert pool.title == 'images in the folder pool'


def test_a_jpeg_is_as_pillow_decodes_it(images, tmp_path):
  path = tmp_path / 'x.jpg'
  Image.fromarray(images[0]).save(path)
  np.testing.assert_array_equal(read('images', tmp_path).images, [np.asarray(Image.open(path))])


def test_a_file_that_is_no_image_is_named(folder):
  (folder / 'more' / 'labels.csv').write_text('1,2,3')
  refuse('images', folder, r'more/labels.csv is damaged or no image \(.*\), expected PNG, JPEG')


def test_an_image_that_no_program_of_pillow_may_open_is_refused(folder):
  (folder / 'drawing.eps').write_text('%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 32\n')
  refuse('images', folder, r'drawing.eps is damaged or no image \(cannot identify')


@pytest.mark.parametrize('name', ['b.png', 'c.bmp', 'd.tiff', 'more/still more/x.ppm'])
@pytest.mark.parametrize('size', [0, 0.5])
def test_an_image_cut_short_is_named(folder, name, size):
  path = folder / name
  os.truncate(path, int(size * path.stat().st_size))
  refuse('images', folder, rf'{name} is damaged or no image')


def test_a_flipped_byte_in_a_png_is_noticed(folder):
  content = bytearray((folder / 'b.png').read_bytes())
  content[200] ^= 1
  (folder / 'b.png').write_bytes(content)
  refuse('images', folder, r'b.png is damaged or no image')


@pytest.mark.parametrize(
  ('mode', 'size', 'found'),
  [
    ('RGB', (64, 32), 'RGB, 32 x 64 pixels'),
    ('RGB', (31, 32), 'RGB, 32 x 31 pixels'),
    ('L', (32, 32), 'L, 32 x 32 pixels'),
    ('RGBA', (32, 32), 'RGBA, 32 x 32 pixels'),
    ('P', (32, 32), 'P, 32 x 32 pixels'),
    ('I;16', (32, 32), 'I;16, 32 x 32 pixels'),
    ('CMYK', (32, 32), 'CMYK, 32 x 32 pixels'),
    ('LAB', (32, 32), 'LAB, 32 x 32 pixels'),
  ],
)
def test_another_size_or_mode_is_named_with_what_is_expected(folder, mode, size, found):
  suffix = 'tiff' if mode in ('CMYK', 'LAB') else 'png'
  Image.new(mode, size).save(folder / f'odd.{suffix}')
  refuse('images', folder, rf'odd.{suffix} is {found}, expected RGB, 32 x 32')


def test_a_link_to_nothing_is_named(folder):
  (folder / 'link.png').symlink_to(folder / 'none.png')
  refuse('images', folder, r'link.png is damaged or no image')


def test_linked_folders_and_files_are_followed_and_cycles_end(images, folder, tmp_path):
  """Two of six lie behind links; others lead back into the folder, above it, and twice to one."""
  elsewhere = tmp_path / 'elsewhere'
  elsewhere.mkdir()
  for name in ('a.PNG', 'c.bmp'):
    (folder / name).rename(elsewhere / name)
  (folder / 'linked').symlink_to(elsewhere)
  (folder / 'more' / 'again').symlink_to(elsewhere)
  (folder / 'more' / 'cycle').symlink_to(folder)
  (elsewhere / 'above').symlink_to(tmp_path)
  (elsewhere / 'b.png').symlink_to(folder / 'd.tiff')
  pool = read('images', folder)
  assert ids(pool.images) == sorted([*ids(images), *ids(images[3:4])])
  assert pool.title == 'images in the folder pool (3 passed over, such as linked/above)'


def test_a_link_to_a_hidden_folder_is_followed(images, folder):
  (folder / 'more').rename(folder / '.more')
  (folder / 'z').symlink_to('.more')
  assert ids(read('images', folder).images) == ids(images)


@pytest.mark.parametrize(
  'name',
  ['Thumbs.db', 'thumbs.db', 'desktop.ini', '.DS_Store', 'more/._a.png', '.git/x', '__MACOSX/x'],
)
def test_what_systems_leave_in_folders_is_passed_over_and_said(images, folder, caplog, name):
  path = folder / name
  path.parent.mkdir(exist_ok=True)
  path.write_text('not an image')
  pool = read('images', folder)
  assert ids(pool.images) == ids(images)
  told = name.removesuffix('/x')
  assert pool.title == f'images in the folder pool (1 passed over, such as {told})'
  assert f'pool: passed over: {told}' in caplog.text


def test_a_folder_of_hidden_files_alone_says_so(tmp_path):
  (tmp_path / '.x.png').write_text('')
  refuse('images', tmp_path, r'holds no file \(1 passed over, such as .x.png\), expected images')


def test_file_names_that_are_no_utf_8_are_read_and_shown(images, tmp_path):
  folder = os.fsdecode(bytes(tmp_path) + b'/caf\xe9')
  os.mkdir(folder)
  Image.fromarray(images[0]).save(os.path.join(folder, os.fsdecode(b'\xff.png')))
  pool = read('images', folder)
  np.testing.assert_array_equal(pool.images, images[:1])
  assert pool.title.encode() == rb'images in the folder caf\xe9'


@pytest.mark.parametrize('orientation', range(2, 9))
def test_images_are_turned_as_a_viewer_shows_them(images, tmp_path, orientation):
  """Stored turned, with the EXIF that turns it back: a leak the hash would miss."""
  turned = {
    2: images[0][:, ::-1],
    3: images[0][::-1, ::-1],
    4: images[0][::-1],
    5: images[0].transpose(1, 0, 2),
    6: np.rot90(images[0], 1),
    7: images[0][::-1, ::-1].transpose(1, 0, 2),
    8: np.rot90(images[0], -1),
  }[orientation]
  exif = Image.Exif()
  exif[0x0112] = orientation
  Image.fromarray(np.ascontiguousarray(turned)).save(tmp_path / 'x.png', exif=exif)
  np.testing.assert_array_equal(read('images', tmp_path).images, images[:1])
  content = (tmp_path / 'x.png').read_bytes()
  np.testing.assert_array_equal(tfds_source._pixels(content, SHAPE), images[0])


@pytest.mark.parametrize('suffix', ['tiff', 'webp', 'png'])
def test_a_file_of_several_images_is_refused(images, tmp_path, suffix):
  first, *others = map(Image.fromarray, images[:3])
  first.save(tmp_path / f'x.{suffix}', save_all=True, append_images=others)
  refuse('images', tmp_path, rf'x.{suffix} holds 3 images, expected one')


def test_a_home_folder_that_is_none_is_refused():
  refuse(
    'arrays', '~nobody-of-this-name/x.npy', r"data.pool_dir is '~nobody-of-this-name/x.npy', but"
  )


def test_a_folder_that_is_none_or_empty_is_refused(tmp_path, folder):
  refuse('images', '', r"data.pool_dir is '', expected where the pool 'images' is")
  refuse('images', tmp_path / 'none', r'data.pool_dir: .*none is not a folder')
  refuse('images', folder / 'a.PNG', r'a.PNG is not a folder')
  (tmp_path / 'empty' / 'inside').mkdir(parents=True)
  refuse('images', tmp_path / 'empty', r'empty holds no file, expected images')


@pytest.mark.parametrize('write', [np.save, np.savez, np.savez_compressed])
def test_an_array_file_gives_its_images(images, tmp_path, write):
  path = tmp_path / ('pool.npy' if write is np.save else 'pool.npz')
  write(path, images)
  pool = read('arrays', path)
  np.testing.assert_array_equal(pool.images, images)
  assert pool.title == f'images in {path.name}'


def test_an_npy_file_stays_on_disk_until_it_is_used(images, tmp_path):
  np.save(tmp_path / 'pool.npy', images)
  assert isinstance(read('arrays', tmp_path / 'pool.npy').images, np.memmap)


@pytest.mark.parametrize(
  ('change', 'found'),
  [
    (lambda images: images.astype(np.float32) / 255, r'float32 \[6, 32, 32, 3\]'),
    (lambda images: images.astype(np.int64), r'int64 \[6, 32, 32, 3\]'),
    (lambda images: images.transpose(0, 3, 1, 2), r'uint8 \[6, 3, 32, 32\]'),
    (lambda images: images[:, :28, :28], r'uint8 \[6, 28, 28, 3\]'),
    (lambda images: images[..., :1], r'uint8 \[6, 32, 32, 1\]'),
    (lambda images: images.reshape(6, -1), r'uint8 \[6, 3072\]'),
    (lambda images: images[0], r'uint8 \[32, 32, 3\]'),
    (lambda images: images[:0], r'uint8 \[0, 32, 32, 3\]'),
  ],
)
@pytest.mark.parametrize('suffix', ['npy', 'npz'])
def test_arrays_of_another_kind_are_refused(images, tmp_path, change, found, suffix):
  path = tmp_path / f'pool.{suffix}'
  (np.save if suffix == 'npy' else np.savez)(path, change(images))
  refuse('arrays', path, rf'pool.{suffix} holds {found}, expected uint8 \[images, 32, 32, 3\]')


@pytest.mark.parametrize('suffix', ['npy', 'npz'])
@pytest.mark.parametrize('size', [0, 0.01, 0.5])
def test_an_array_file_cut_short_is_named(images, tmp_path, suffix, size):
  path = tmp_path / f'pool.{suffix}'
  (np.save if suffix == 'npy' else np.savez)(path, images)
  os.truncate(path, int(size * path.stat().st_size))
  refuse('arrays', path, rf'pool.{suffix} is damaged or holds something else')


def test_objects_are_not_unpickled(tmp_path):
  objects = np.array([{'a': 1}], object)
  np.save(tmp_path / 'pool.npy', objects, allow_pickle=True)
  np.savez(tmp_path / 'pool.npz', objects, allow_pickle=True)
  refuse('arrays', tmp_path / 'pool.npy', r'holds something else \(.*Python objects')
  refuse('arrays', tmp_path / 'pool.npz', r'holds something else \(.*pickle')


def test_an_array_file_that_is_none_or_has_several_is_refused(images, tmp_path):
  refuse('arrays', tmp_path / 'none.npy', r'none.npy is no .npy or .npz file')
  refuse('arrays', tmp_path, r'is no .npy or .npz file')
  for name in ('text.npy', 'text.npz'):
    (tmp_path / name).write_text('not arrays')
    refuse('arrays', tmp_path / name, rf'{name} is damaged')
  (tmp_path / 'array.bin').write_bytes(b'')
  refuse('arrays', tmp_path / 'array.bin', r'array.bin is no .npy or .npz file')
  np.savez(tmp_path / 'two.npz', first=images, second=images)
  refuse('arrays', tmp_path / 'two.npz', r'\(arrays first, second\), expected one array')


def test_a_header_that_promises_too_much_is_refused(tmp_path):
  np.save(tmp_path / 'pool.npy', np.zeros((1, *SHAPE), np.uint8))
  content = (tmp_path / 'pool.npy').read_bytes().replace(b'(1, 32', b'(9' + b'9' * 14 + b', 32')
  np.savez(tmp_path / 'pool.npz', np.zeros(1))
  with zipfile.ZipFile(tmp_path / 'pool.npz', 'w') as file:
    file.writestr('x.npy', content)
  (tmp_path / 'pool.npy').write_bytes(content)
  refuse('arrays', tmp_path / 'pool.npy', r'pool.npy is damaged or holds something else')
  refuse('arrays', tmp_path / 'pool.npz', r'pool.npz is damaged or holds something else')


class Source:
  """What tfds.data_source gives: examples whose image is left encoded."""

  def __init__(self, images):
    self.images = images

  def __len__(self):
    return len(self.images)

  def __getitems__(self, rows):
    return [{'image': png(self.images[row])} for row in rows]


def png(image):
  file = io.BytesIO()
  Image.fromarray(image).save(file, 'PNG')
  return file.getvalue()


def test_a_tfds_set_gives_the_images_of_all_splits(images, tmp_path, monkeypatch):
  def source(name, split, data_dir):
    assert (name, split, data_dir) == ('some/32x32', 'all', tmp_path)
    return Source(images)

  monkeypatch.setattr(tfds_source, '_source', source)
  monkeypatch.setattr(tfds_source, '_CHUNK', 4)
  pool = read('tfds:some/32x32', tmp_path)
  np.testing.assert_array_equal(pool.images, images)
  assert pool.title == 'some/32x32 from TFDS'


@pytest.mark.parametrize(
  ('odd', 'found'),
  [
    (np.zeros((64, 48, 3), np.uint8), 'RGB, 64 x 48 pixels'),
    (np.zeros((32, 32), np.uint8), 'L, 32 x 32'),
  ],
)
def test_a_tfds_set_of_another_size_or_mode_is_refused(images, tmp_path, monkeypatch, odd, found):
  monkeypatch.setattr(tfds_source, '_source', lambda *_: Source([*images, odd]))
  expected = r'expected array_record files of RGB images, 32 x 32 pixels'
  refuse('tfds:some', tmp_path, rf'some: TFDS did not read all \(an image is {found}.*{expected}')


def test_height_comes_before_width(images, tmp_path, monkeypatch):
  wide = images[:, :20, :24]
  (tmp_path / 'folder').mkdir()
  Image.fromarray(wide[0]).save(tmp_path / 'folder' / 'wide.png')
  np.save(tmp_path / 'wide.npy', wide[:1])
  monkeypatch.setattr(tfds_source, '_source', lambda *_: Source(wide[:1]))
  for kind, place in (('images', 'folder'), ('arrays', 'wide.npy'), ('tfds:wide', '')):
    found = read(kind, tmp_path / place, (20, 24, 3)).images
    np.testing.assert_array_equal(found, wide[:1])


@pytest.mark.slow
def test_a_prepared_tfds_set_is_a_pool(cifar_folder, tmp_path):
  cifar.prepare_tfds('cifar100', str(cifar_folder), str(tmp_path))
  records = [
    np.fromfile(cifar_folder / 'cifar-100-binary' / f, np.uint8) for f in ('train.bin', 'test.bin')
  ]
  pixels = np.concatenate(records).reshape(-1, 3074)[:, 2:].reshape(-1, 3, 32, 32)
  assert ids(read('tfds:cifar100', tmp_path).images) == ids(pixels.transpose(0, 2, 3, 1))


@pytest.mark.parametrize(
  ('there', 'found'),
  [
    ([], 'version 3.0.2 is sought, nothing is there'),
    (['3.0.1'], 'version 3.0.2 is sought, 3.0.1 is there'),
    (['1.0.0', '3.0.1'], 'version 3.0.2 is sought, 1.0.0, 3.0.1 is there'),
    (['3.0.2'], 'the preparation of version 3.0.2 was interrupted, 3.0.2 is what is there'),
    (
      ['3.0.1', '3.0.2.incompleteX1'],
      'the preparation of version 3.0.2 was interrupted, 3.0.2.incompleteX1 is what is there',
    ),
    (
      ['incomplete.X1_3.0.2'],
      'the preparation of version 3.0.2 was interrupted, incomplete.X1_3.0.2 is what is there',
    ),
  ],
)
def test_of_a_tfds_set_what_is_there_is_said_beside_what_is_sought(tmp_path, there, found):
  for name in there:
    (tmp_path / 'some' / name).mkdir(parents=True)
  assert tfds_source._what_is_there(pathlib.Path(tmp_path, 'some', '3.0.2')) == found


def test_examples_without_an_image_are_named(tmp_path, monkeypatch):
  monkeypatch.setattr(Source, '__getitems__', lambda self, rows: [{'audio': b''} for _ in rows])
  monkeypatch.setattr(tfds_source, '_source', lambda *_: Source([0]))
  refuse('tfds:some', tmp_path, r"some: TFDS did not read all \(its examples have no 'image'\)")


@pytest.mark.slow
@pytest.mark.parametrize('there', ['3.0.1', '3.0.2.incompleteX1', '3.0.2'])
def test_another_version_of_a_tfds_set_or_a_begun_one_is_refused(tmp_path, there):
  (tmp_path / 'cifar10' / there).mkdir(parents=True)
  refuse('tfds:cifar10', tmp_path, rf'cifar10: TFDS did not read all \(.*3.0.2 .* {there} is ')


@pytest.mark.slow
def test_a_tfds_set_that_is_not_there_is_named(tmp_path):
  refuse('tfds:nonsense', tmp_path, r'nonsense: TFDS did not read all \(Dataset nonsense not found')


@pytest.mark.parametrize(
  ('kind', 'is_one'),
  [
    ('images', True),
    ('arrays', True),
    ('tfds:svhn_cropped', True),
    ('tfds:', False),
    ('tfds', False),
    ('image', False),
    ('', False),
  ],
)
def test_the_kinds_are_known(kind, is_one):
  assert pools.is_kind(kind) == is_one

"""Every key of an experiment's config, with its default, its meaning and what it decides: data.

The keys of a model are the arguments of its class (shallow_jax/models), those of a figure of
several networks stand in sweep_settings.py. `defaults.py` completes a config by these and refuses
what is not here. What a key decides, such as weights or figures, is its class (key_classes.py):
that of its group unless it is marked.
"""

from shallow_jax.settings import key_classes

Keys = key_classes.Keys
figures, operation = key_classes.figures, key_classes.operation
presentation, weights = key_classes.presentation, key_classes.weights

EXPERIMENT = Keys(
  'weights',
  name=presentation(''),  # the title of the report
  splits=(),  # values of data.split_seed, each a whole run, pooled in the report; (): one run
  data={},
  networks={},
  order=presentation(()),  # of the networks in run and report; (): as they are given
  logits=Keys(
    'operation',
    shard_rows=65_536,  # examples in a file of the logit store
    batch_size=256,  # examples that a device computes at once; divides shard_rows
    dtype=weights('float32'),  # or float16: half the bytes
    keep_members=False,  # store each member's logits beside the mean of an ensemble
  ),
  parallel=Keys(  # how it is computed, not what: the results agree (runtime/parallel.py)
    'operation',
    compile='jit',  # or pmap, which divides the batch alone
    model=1,  # devices that share a wide layer's hidden units; the others share the batch
  ),
  evaluation=Keys(
    'figures',
    latency_batches=(1, 32, 256),  # examples a call; (): don't measure
    decoding=dict(  # of speech: values of which validation chooses (shallow_jax/speech/viterbi.py)
      acoustic=(0.2, 0.3, 0.5, 0.7, 1.0, 1.5),  # times a frame's log likelihood
      lm=(0.5, 1.0, 2.0, 3.0, 4.0),  # times the bigram's log probability
      insertion=(-4.0, -2.0, 0.0, 2.0, 4.0, 6.0),  # nats for each phone
    ),
  ),
  report=Keys(
    'presentation',
    attribution=(),  # networks from the labels' to the teacher, each one change further
    baseline='',  # the network on labels; '': none
    headline='',  # the mimic that is compared with it
    teacher='',
    note='',  # under the title, such as that the nets are smaller than the paper's
    sweeps=(),  # figures of several networks, by name (sweep_settings.py: SWEEP)
  ),
)

NETWORK = Keys(
  'weights',
  # Exactly one of the next two says what the network is.
  model=None,  # name and the constructor's arguments (shallow_jax.models.MODELS)
  ensemble=(),  # networks whose seeds' logits are averaged
  fit=None,  # of model single_layer, which is fitted without gradient descent: see FIT
  seeds=figures(1),  # those that are there stay
  seeds_together=False,  # trained in one program: equal to one by one up to rounding
  init='',  # a network of the same model to start from; seed i starts from its seed i mod n
  targets='labels',  # or a network, or one seed of it: 'cnn/0'; of speech 'alignment:cnn' too
  examples=('train',),  # the sets to train on
  views=1,  # augmented views of each example, one an epoch in turn; 1: as it is
  augment={},  # where they are made in another way than data.augment says: what differs
  loss=dict(
    name='cross_entropy',
    temperature=1.0,  # of kl
    normalize=True,  # L2 losses: in units of the targets' standard deviation per class
    label_smoothing=0.0,  # of cross_entropy
    label_weight=0.0,  # the share of the labels' cross-entropy, for examples with a label
  ),
  optimizer=dict(
    learning_rate=0.0,  # 0: the model's own (training/optimizer.py: default_rate)
    momentum=0.9,
    nesterov=False,
    warmup_steps=200,
    schedule='cosine',  # constant, cosine, step, plateau
    decay_at=(0.5, 0.75),  # step: fractions of num_steps
    decay_factor=0.1,  # step and plateau
    plateau_evaluations=5,  # plateau: evaluations without a better one before the rate falls
    weight_decay=0.0,
    clip_norm=0.0,  # 0: off
  ),
  search={},  # values to try: dict(optimizer=dict(learning_rate=(0.003, 0.01)))
  compute_dtype='float32',  # or bfloat16: of the products in training; all else stays float32
  batch_size=64,
  num_steps=1000,
  steps_per_call=1,  # > 1 pays on accelerators, and on CPU for nets without convolution
  evaluate_every_steps=100,
  checkpoint_every_steps=operation(1000),
  stop_after_evaluations=0,  # early stopping: evaluations without a better one; 0: never
  select='error',  # validation chooses step and trial by error (ties by loss) or by loss; or last
  label=presentation(''),  # how the report calls it; '': its name
  paper=presentation(None),  # dict(value=15.1, source='Table 2'): the paper's figure for this row
)

FIT = Keys(
  'weights',
  num_patches=400_000,  # that k-means clusters
  svm_c=0.002,  # a squared hinge's weight beside |w|² / 2: 100 / 50,000 images in Coates' code
)

SPEECH = Keys(  # of every corpus; the data are in the fingerprint, not where they lie
  'weights',
  data_dir=operation(''),  # the folder of the recordings
  cache_dir=operation(''),  # for their features; '': $XDG_CACHE_HOME or ~/.cache, there shallow_jax
  skip_bad=False,  # leave out damaged utterances and note them; else the first one ends the run
  max_utterances=0,  # of each split; 0: all
  pool_dir='',  # unlabelled: a folder of .wav, .flac, .sph of any rate and no phones; '': none
)

PREPROCESSING = Keys(
  'weights',
  name='standardise',  # per_image, gcn_zca (shallow_jax/data/preprocessing.py)
  zca_epsilon=0.1,  # added to the variances that ZCA scales to 1
)

DATA = {
  'digits': Keys(
    'weights',
    split_seed=0,
    num_train=400,
    num_validation=100,
    num_unlabelled=297,
    num_test=figures(1000),
  ),
  'cifar10': Keys(
    'weights',
    data_dir=operation(''),  # a TFDS data_dir, or the folder of the binary archive
    num_validation=5000,
    split_seed=0,
    pool='',  # unlabelled: the other CIFAR, images, arrays, tfds:NAME (shallow_jax/data/pools.py)
    pool_dir=operation(''),  # where it is; '' for the other CIFAR: in data_dir
    near_duplicate_correlation=0.7,  # with validation or test: dropped (data/duplicates.py); 0: off
    max_train=0,  # 0: all
    max_test=figures(0),
    max_pool=0,
    augment=dict(  # how views are made (shallow_jax/data/views.py)
      flip=False,
      crop_padding=0,  # pixels
      crop_min_scale=1.0,  # of the side; 0.75 of 32 pixels: crops of 24 to 32; 1: off
      hue_shift=0.0,  # of the colour circle
      saturation_shift=0.0,
      saturation_scale=0.0,
      value_shift=0.0,
      value_scale=0.0,
      mixup_alpha=0.0,  # in what learns from logits; 0: off
      seed=0,
    ),
  ),
  'arrays': Keys('weights', path='', num_validation=0, split_seed=0),
  'timit': SPEECH,
  'timit_sample': Keys(
    'weights',
    SPEECH,
    split_seed=0,  # the rotation, 0 to 7: which 2 of the 16 speakers are tested
  ),
  'speech': Keys(
    'weights',
    SPEECH,
    phone_map='',  # timit, cmu_arctic, arpabet or a file (shallow_jax/speech/recordings/phones.py)
    split_file='',  # cmu_arctic, librispeech or a file (shallow_jax/speech/recordings/splits.py)
    alignment_dir='',  # a folder or one .mlf; '': beside the recordings
  ),
}
DATA['cifar100'] = DATA['cifar10']

DERIVED_SET = Keys(
  'weights',
  of=(),  # the sets it is made of
  without_class=-1,  # a class to leave out; -1: none
  size=0,  # so many of them; 0: all
  munge=None,  # dict(size, swap_probability, local_variance, seed): Bucila et al. 2006
)
MUNGE = Keys('weights', size=0, swap_probability=0.2, local_variance=1.0, seed=0)
PAPER = Keys(
  'presentation',
  value=0.0,  # test error in per cent
  source='',
  parameters='',  # as the paper states them: '~70M'
  hidden_units='',
)

# What `run` may be told to do alone: one arrow of the chain.
STAGES = ('all', 'train', 'logits', 'evaluate', 'report')

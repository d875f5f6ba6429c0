"""A config for tests of several processes: a CNN and its mimic, seconds."""

from shallow_jax.settings import defaults


def get_config():
  small = dict(num_steps=30, evaluate_every_steps=15, checkpoint_every_steps=10, batch_size=40)
  return defaults.experiment(
    name='two networks',
    data=dict(name='digits'),
    networks=dict(
      cnn=dict(
        small,
        model=dict(name='cnn', features=(8,), kernel_size=3, dense=(16,), batch_norm=True),
        optimizer=dict(learning_rate=0.05, warmup_steps=5),
      ),
      mimic=dict(
        small,
        model=dict(name='shallow', hidden=128, bottleneck=16, dropout=0.2),
        targets='cnn',
        loss=dict(name='logit_l2'),
        examples=('train', 'unlabelled'),
        optimizer=dict(learning_rate=0.003, warmup_steps=5),
      ),
    ),
    logits=dict(shard_rows=64, batch_size=32),
    evaluation=dict(latency_batches=()),
  )

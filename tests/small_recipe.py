"""A recipe of a network small enough for tests, on rendered hands."""

SMALL_RECIPE = """\
name: small
seed: 3
backbone: {name: hourglass, stacks: 1, depth: 2, channels: 8, growth: 0, heatmaps: 21}
regressor: {name: iterative, feature_size: 8, hidden: 8, iterations: 2, dropout: 0.0}
decoder: {name: mano, pose_components: 9}
renderer: {name: contour, size: 16}
losses:
  joints_3d: {weight: 10}
  seg: {weight: 2}
optimizer: {name: RMSprop, lr: 2e-4}
scheduler: {name: ReduceLROnPlateau, factor: 0.7}
data: {name: synthetic, image_size: 64, batch_size: 2, count: 8, val_count: 3, render_size: 64}
trainer: {max_epochs: 2, accelerator: cpu, log_every_n_steps: 1, num_sanity_val_steps: 0}
"""

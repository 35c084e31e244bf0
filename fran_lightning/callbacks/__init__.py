"""What a run draws and exports while it trains: sample sheets, the ablation grid, the generator's weights."""

"""The emulated ExaNIC: what the guest sees behind its PCI BARs, one file per hardware concept."""

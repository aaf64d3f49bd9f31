"""Training of the embedded models and of LoRAs for any FluxPipeline."""

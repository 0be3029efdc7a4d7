// Builds the brain's modules and the pathways between them.

#include "BrainOrchestrator.h"

#include <utility>

void BrainOrchestrator::createModules(int embedding_dim) {
  CorticalModule::Config config;

  // Thalamus: gates sensory input.
  config.name = "Thalamus";
  config.num_inputs = embedding_dim;
  config.num_outputs = 2048;
  config.num_neurons = 4096;
  config.plasticity = 0.01f;
  modules_.emplace("thalamus", std::make_unique<CorticalModule>(config));

  // Wernicke: comprehension.
  config.name = "Wernicke";
  config.num_inputs = 2048;
  config.num_outputs = 16384;
  config.num_neurons = 16384;
  config.plasticity = 0.05f;
  modules_.emplace("wernicke", std::make_unique<CorticalModule>(config));

  // Broca: production. Its output feeds the GPU decoder, so the two sizes go together.
  config.name = "Broca";
  config.num_outputs = 32768;
  config.num_inputs = 32768;
  config.num_neurons = 16384;
  config.plasticity = 0.05f;
  modules_.emplace("broca", std::make_unique<CorticalModule>(config));

  // Hippocampus: episodic memory. Sparse, so its 32768 outputs cost little.
  config.name = "Hippocampus";
  config.num_inputs = 16384;
  config.num_outputs = 32768;
  config.num_neurons = 8192;
  config.plasticity = 0.10f;
  modules_.emplace("hippocampus", std::make_unique<SparseModule>(config));

  // Prefrontal cortex: working memory and control.
  config.name = "PFC";
  config.num_inputs = 32768;
  config.num_outputs = 8192;
  config.num_neurons = 32768;
  config.plasticity = 0.02f;
  modules_.emplace("pfc", std::make_unique<CorticalModule>(config));
}

void BrainOrchestrator::connectModules() {
  connect("thalamus", "wernicke", 0.8f);
  connect("wernicke", "broca", 0.9f);
  connect("wernicke", "hippocampus", 0.5f);
  connect("hippocampus", "pfc", 0.5f);
  connect("pfc", "broca", 0.6f);
}

Tensor BrainOrchestrator::step(const Tensor& embedded) {
  Tensor signal = modules_.at("thalamus")->forward(embedded);
  signal = modules_.at("wernicke")->forward(signal);
  memory_.push_back(signal);
  return modules_.at("broca")->forward(std::move(signal));
}

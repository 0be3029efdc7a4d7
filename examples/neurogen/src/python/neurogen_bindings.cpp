// Python bindings: neurogen.Brain.

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <memory>
#include <string>
#include <vector>

#include "../gpu/GPUDecoder.h"
#include "../gpu/TokenEmbedding.h"
#include "../modules/BrainOrchestrator.h"

namespace py = pybind11;

class Brain {
 public:
  Brain(int vocab_size, int embedding_dim, int max_seq_length) {
    TokenEmbedding::Config embedding_config;
    embedding_config.vocab_size = vocab_size;
    embedding_config.embedding_dim = embedding_dim;
    embedding_config.max_seq_length = max_seq_length;
    embedding_ = std::make_unique<TokenEmbedding>(embedding_config);

    // The decoder projects Broca's output onto the vocabulary.
    GPUDecoder::Config gpu_decoder_config;
    gpu_decoder_config.vocab_size = vocab_size;
    gpu_decoder_config.output_dim = 32768; // MAXIMALLY SCALED: must equal Broca's num_outputs
    gpu_decoder_config.temperature = 0.8f;
    gpu_decoder_config.top_k = 50;
    decoder_ = std::make_unique<GPUDecoder>(gpu_decoder_config);

    orchestrator_ = std::make_unique<BrainOrchestrator>(embedding_dim);
  }

  float train_step(const std::vector<int>& tokens, float learning_rate) {
    const auto embedded = embedding_->forward(tokens);
    const auto thought = orchestrator_->step(embedded);
    const float loss = decoder_->loss(thought, tokens);
    orchestrator_->reward(-loss, learning_rate);
    decoder_->update(learning_rate);
    return loss;
  }

  void consolidate(int steps) { orchestrator_->replay(steps); }
  void save(const std::string& path) const { orchestrator_->save(path); }

 private:
  std::unique_ptr<TokenEmbedding> embedding_;
  std::unique_ptr<GPUDecoder> decoder_;
  std::unique_ptr<BrainOrchestrator> orchestrator_;
};

PYBIND11_MODULE(neurogen, module) {
  py::class_<Brain>(module, "Brain")
      .def(py::init<int, int, int>())
      .def("train_step", &Brain::train_step)
      .def("consolidate", &Brain::consolidate)
      .def("save", &Brain::save);
}

"""What training minimises: pure functions of logits and classes."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

_EPSILON = 1 - math.log(2)


def cross_entropy(logits: Tensor, target: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy, a scalar. `logits`: float32 [nodes, num_classes]; `target`: int64 [nodes]."""
    return F.cross_entropy(logits, target, label_smoothing=label_smoothing)


def log_epsilon(logits: Tensor, target: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Mean over nodes of log(eps + CE) - log(eps), eps = 1 - ln 2; a scalar.

    The loss of "Bag of Tricks for Node Classification with Graph Neural Networks" (Wang et al. 2021, arXiv 2103.13355)
    and of RevGAT's OGB entry: it grows slowly where CE, a node's cross-entropy, is large, so that nodes with a wrong
    or unlikely label pull less. `logits`: float32 [nodes, num_classes]; `target`: int64 [nodes].
    """
    each = F.cross_entropy(logits, target, reduction="none", label_smoothing=label_smoothing)
    return (torch.log(_EPSILON + each) - math.log(_EPSILON)).mean()


def distillation(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """T^2 times the mean over nodes and classes of q (log q - log p), p and q the softmax of student and teacher at T.

    It is the Kullback-Leibler divergence of p from q (Hinton et al. 2015, arXiv 1503.02531) as the OGB code of RevGAT
    takes it (deep_gcns_torch, examples/ogb_eff/ogbn_arxiv_dgl): averaged over classes too, so it is smaller by the
    factor 1 / num_classes than the divergence a node. There T is 0.7, the mean runs over all nodes of the graph, and
    the total is (1 - alpha) loss + alpha distillation with alpha 0.95. Both: float32 [nodes, num_classes]; no
    gradient reaches the teacher.
    """
    student = F.log_softmax(student_logits / temperature, dim=1)
    teacher = F.log_softmax(teacher_logits.detach() / temperature, dim=1)
    return temperature**2 * (teacher.exp() * (teacher - student)).mean()


LOSSES = {"cross-entropy": cross_entropy, "log-epsilon": log_epsilon}

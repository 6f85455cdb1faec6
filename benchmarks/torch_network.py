"""The same network in PyTorch, written as the original's authors would: nothing of ours in it."""

# pyright: reportMissingImports=false
# ruff: noqa: D102, D107
from torch import nn
from torch.nn import functional as F


class Separable(nn.Module):
    """A depthwise 3x3 convolution, then a pointwise one; nothing in between."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.depthwise = nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False)
        self.pointwise = nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, x):
        return self.pointwise(self.depthwise(x))


class Block(nn.Module):
    """Two separable convolutions and a shortcut."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = Separable(inputs, outputs, stride)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = Separable(outputs, outputs, 1)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            projection = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.shortcut = nn.Sequential(projection, nn.BatchNorm2d(outputs))

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class Network(nn.Module):
    """The whole network on images [B, 3, 32, 32]."""

    def __init__(self, dropout=0.2):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 20, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(20)
        self.layer1 = nn.Sequential(Block(20, 20, 1), Block(20, 20, 1))
        self.layer2 = nn.Sequential(Block(20, 40, 2), Block(40, 40, 1))
        self.layer3 = nn.Sequential(Block(40, 80, 2), Block(80, 80, 1))
        self.layer4 = nn.Sequential(Block(80, 160, 2), Block(160, 160, 1))
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(160, 10)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.dropout(x.mean((2, 3))))
